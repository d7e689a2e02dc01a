-- The first schema. Times are milliseconds since the epoch. A subject is 'user:ID', 'thing:ID',
-- 'group:ID' or 'admin:'. Random 128-bit secrets are kept as SHA-256, passwords as argon2id.

CREATE TABLE apps (
    app_id                     TEXT PRIMARY KEY,
    name                       TEXT NOT NULL,
    app_key                    TEXT NOT NULL,
    client_id                  TEXT NOT NULL UNIQUE,
    client_secret_hash         BLOB NOT NULL,
    created_ms                 INTEGER NOT NULL,
    is_disabled                INTEGER NOT NULL,
    is_app_key_checked         INTEGER NOT NULL,
    is_thing_password_checked  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
    app_id         TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
    user_id        TEXT NOT NULL,
    created_ms     INTEGER NOT NULL,
    login_name     TEXT,
    email_address  TEXT,
    phone_number   TEXT,
    password_hash  TEXT,
    is_disabled    INTEGER NOT NULL DEFAULT 0,
    fields         TEXT NOT NULL,
    PRIMARY KEY (app_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX users_by_login_name ON users (app_id, login_name) WHERE login_name IS NOT NULL;
CREATE UNIQUE INDEX users_by_email ON users (app_id, email_address) WHERE email_address IS NOT NULL;
CREATE UNIQUE INDEX users_by_phone ON users (app_id, phone_number) WHERE phone_number IS NOT NULL;

CREATE TABLE things (
    app_id           TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
    thing_id         TEXT NOT NULL,
    vendor_thing_id  TEXT NOT NULL,
    created_ms       INTEGER NOT NULL,
    password_hash    TEXT NOT NULL,
    is_disabled      INTEGER NOT NULL DEFAULT 0,
    fields           TEXT NOT NULL,
    is_online        INTEGER NOT NULL DEFAULT 0,
    online_ms        INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (app_id, thing_id),
    UNIQUE (app_id, vendor_thing_id)
) STRICT, WITHOUT ROWID;

-- Who owns a thing: 'user:ID' or 'group:ID'.
CREATE TABLE thing_owners (
    app_id    TEXT NOT NULL,
    thing_id  TEXT NOT NULL,
    subject   TEXT NOT NULL,
    PRIMARY KEY (app_id, thing_id, subject),
    FOREIGN KEY (app_id, thing_id) REFERENCES things ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX thing_owners_by_subject ON thing_owners (app_id, subject);

CREATE TABLE groups (
    app_id         TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
    group_id       TEXT NOT NULL,
    name           TEXT NOT NULL,
    owner_user_id  TEXT NOT NULL,
    created_ms     INTEGER NOT NULL,
    modified_ms    INTEGER NOT NULL,
    PRIMARY KEY (app_id, group_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX groups_by_owner ON groups (app_id, owner_user_id);

-- The owner is a member too.
CREATE TABLE group_members (
    app_id    TEXT NOT NULL,
    group_id  TEXT NOT NULL,
    user_id   TEXT NOT NULL,
    PRIMARY KEY (app_id, group_id, user_id),
    FOREIGN KEY (app_id, group_id) REFERENCES groups ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX group_members_by_user ON group_members (app_id, user_id);

CREATE TABLE access_tokens (
    token_hash    BLOB PRIMARY KEY,
    app_id        TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
    kind          TEXT NOT NULL,
    principal_id  TEXT NOT NULL,
    created_ms    INTEGER NOT NULL,
    expires_ms    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX access_tokens_by_principal ON access_tokens (app_id, kind, principal_id);
CREATE INDEX access_tokens_by_expiry ON access_tokens (expires_ms)
    WHERE expires_ms < 9223372036854775807;

CREATE TABLE installations (
    installation_id  TEXT PRIMARY KEY,
    app_id           TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
    subject          TEXT NOT NULL,
    device_type      TEXT NOT NULL,
    registration_id  TEXT NOT NULL,
    is_development   INTEGER NOT NULL,
    created_ms       INTEGER NOT NULL,
    UNIQUE (app_id, device_type, registration_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX installations_by_subject ON installations (app_id, subject);

CREATE TABLE mqtt_endpoints (
    installation_id  TEXT PRIMARY KEY REFERENCES installations ON DELETE CASCADE,
    username         TEXT NOT NULL UNIQUE,
    password_hash    BLOB NOT NULL,
    mqtt_topic       TEXT NOT NULL UNIQUE,
    expires_ms       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Buckets and topics. AUTOINCREMENT: a key must never come back, the live index remembers it.
CREATE TABLE sources (
    source_key  INTEGER PRIMARY KEY AUTOINCREMENT,
    app_id      TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
    scope       TEXT NOT NULL,
    kind        TEXT NOT NULL,
    source_id   TEXT NOT NULL,
    creator     TEXT NOT NULL,
    created_ms  INTEGER NOT NULL,
    -- A named filter was made once: most writes go to buckets that never had one.
    has_filters INTEGER NOT NULL DEFAULT 0,
    UNIQUE (app_id, scope, kind, source_id)
) STRICT;

-- Changes to the default rights of a scope, bucket, topic or object. resource: its URI without the
-- scheme. is_granted 0: a default right that was taken away.
CREATE TABLE acl_entries (
    app_id      TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
    resource    TEXT NOT NULL,
    verb        TEXT NOT NULL,
    subject     TEXT NOT NULL,
    is_granted  INTEGER NOT NULL,
    PRIMARY KEY (app_id, resource, verb, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX acl_entries_by_subject ON acl_entries (app_id, subject);

CREATE TABLE objects (
    object_key   INTEGER PRIMARY KEY AUTOINCREMENT,
    source_key   INTEGER NOT NULL REFERENCES sources ON DELETE CASCADE,
    object_id    TEXT NOT NULL,
    version      INTEGER NOT NULL,
    created_ms   INTEGER NOT NULL,
    modified_ms  INTEGER NOT NULL,
    owner        TEXT NOT NULL,
    data_type    TEXT NOT NULL,
    document     TEXT NOT NULL,
    UNIQUE (source_key, object_id)
) STRICT;

-- The body of an object. blob: the name of the file that holds its bytes.
CREATE TABLE bodies (
    source_key    INTEGER NOT NULL,
    object_id     TEXT NOT NULL,
    blob          TEXT NOT NULL UNIQUE,
    content_type  TEXT NOT NULL,
    size_bytes    INTEGER NOT NULL,
    modified_ms   INTEGER NOT NULL,
    PRIMARY KEY (source_key, object_id),
    FOREIGN KEY (source_key, object_id) REFERENCES objects (source_key, object_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Bodies that arrive in parts. total_bytes: unknown until the first part has come.
CREATE TABLE uploads (
    upload_id       TEXT PRIMARY KEY,
    app_id          TEXT NOT NULL,
    creator         TEXT NOT NULL,
    source_key      INTEGER NOT NULL,
    object_id       TEXT NOT NULL,
    blob            TEXT NOT NULL UNIQUE,
    content_type    TEXT NOT NULL,
    received_bytes  INTEGER NOT NULL,
    total_bytes     INTEGER,
    expires_ms      INTEGER NOT NULL,
    FOREIGN KEY (source_key, object_id) REFERENCES objects (source_key, object_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX uploads_by_object ON uploads (source_key, object_id);
CREATE INDEX uploads_by_creator ON uploads (app_id, creator);
CREATE INDEX uploads_by_expiry ON uploads (expires_ms);

-- Files whose row is gone, however it went (an app takes its buckets, a bucket its objects, an object
-- its body), written in the same commit, so that no crash can forget one.
CREATE TABLE garbage_blobs (blob TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TRIGGER body_replaced AFTER UPDATE OF blob ON bodies WHEN old.blob != new.blob BEGIN
    INSERT INTO garbage_blobs VALUES (old.blob);
END;
CREATE TRIGGER body_deleted AFTER DELETE ON bodies BEGIN
    INSERT INTO garbage_blobs VALUES (old.blob);
END;
-- A committed upload has become a body before it is deleted.
CREATE TRIGGER upload_ended AFTER DELETE ON uploads
WHEN NOT EXISTS (SELECT 1 FROM bodies WHERE blob = old.blob) BEGIN
    INSERT INTO garbage_blobs VALUES (old.blob);
END;

-- is_heard: the subscriber may hear the source; kept true by every verb that changes a right, so that
-- connecting and sending need not ask again.
CREATE TABLE subscriptions (
    source_key  INTEGER NOT NULL REFERENCES sources ON DELETE CASCADE,
    app_id      TEXT NOT NULL,
    subject     TEXT NOT NULL,
    created_ms  INTEGER NOT NULL,
    is_heard    INTEGER NOT NULL,
    PRIMARY KEY (source_key, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX subscriptions_by_subject ON subscriptions (app_id, subject);

-- Named filters of buckets: which events, and which objects (a query clause, JSON). A filter is a
-- source of its own, of kind 'filter', so one subscribes to it as to any other.
CREATE TABLE filters (
    source_key   INTEGER PRIMARY KEY REFERENCES sources ON DELETE CASCADE,
    bucket_key   INTEGER NOT NULL REFERENCES sources ON DELETE CASCADE,
    event_types  TEXT NOT NULL,
    clause       TEXT NOT NULL
) STRICT;
CREATE INDEX filters_by_bucket ON filters (bucket_key);

-- Accepted messages and what became of them, kept for limits.message_retention_s. place: the path of
-- the topic, or of the user or thing for a direct push.
CREATE TABLE messages (
    message_id  TEXT PRIMARY KEY,
    app_id      TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
    place       TEXT NOT NULL,
    sender      TEXT NOT NULL,
    sent_ms     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX messages_by_time ON messages (sent_ms);

-- How many recipients of a network met which end: 'delivered' or the reason why not.
CREATE TABLE message_outcomes (
    message_id  TEXT NOT NULL REFERENCES messages ON DELETE CASCADE,
    network     TEXT NOT NULL,
    outcome     TEXT NOT NULL,
    recipients  INTEGER NOT NULL,
    PRIMARY KEY (message_id, network, outcome)
) STRICT, WITHOUT ROWID;

-- Commands to things, kept for limits.message_retention_s. body: what the thing gets; results: its
-- answer. deadline_ms: until when an unreachable thing is waited for.
CREATE TABLE commands (
    command_id   TEXT PRIMARY KEY,
    app_id       TEXT NOT NULL,
    thing_id     TEXT NOT NULL,
    issuer       TEXT NOT NULL,
    state        TEXT NOT NULL,
    body         TEXT NOT NULL,
    results      TEXT NOT NULL,
    created_ms   INTEGER NOT NULL,
    modified_ms  INTEGER NOT NULL,
    deadline_ms  INTEGER NOT NULL,
    FOREIGN KEY (app_id, thing_id) REFERENCES things ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX commands_by_thing ON commands (app_id, thing_id, created_ms);
CREATE INDEX commands_waiting ON commands (deadline_ms) WHERE state = 'SENDING';
CREATE INDEX commands_by_time ON commands (created_ms);

-- What a thing last said of itself; alias is empty in the form without traits.
CREATE TABLE thing_states (
    app_id       TEXT NOT NULL,
    thing_id     TEXT NOT NULL,
    alias        TEXT NOT NULL,
    state        TEXT NOT NULL,
    modified_ms  INTEGER NOT NULL,
    PRIMARY KEY (app_id, thing_id, alias),
    FOREIGN KEY (app_id, thing_id) REFERENCES things ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
