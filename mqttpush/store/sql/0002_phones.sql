-- Phones and browsers: credentials of push networks, jobs and deliveries. Times as in the first schema.

-- One device token may be several owners' (a setting of the second dialect); no index can be added to
-- what is unique, so the table is made anew. Its endpoints step aside: dropping it would delete them.
-- platform, framework, service: what the second dialect knows of a device. problem: why the network
-- refuses the token, though the device may still be there. updated_ms: when it last registered.
CREATE TABLE endpoints_aside AS SELECT * FROM mqtt_endpoints;
DROP TABLE mqtt_endpoints;
CREATE TABLE new_installations (
    installation_id  TEXT PRIMARY KEY,
    app_id           TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
    subject          TEXT NOT NULL,
    device_type      TEXT NOT NULL,
    registration_id  TEXT NOT NULL,
    is_development   INTEGER NOT NULL,
    created_ms       INTEGER NOT NULL,
    updated_ms       INTEGER NOT NULL,
    problem          TEXT NOT NULL DEFAULT '',
    platform         TEXT NOT NULL DEFAULT '',
    framework        TEXT NOT NULL DEFAULT '',
    service          TEXT NOT NULL DEFAULT '',
    UNIQUE (app_id, device_type, registration_id, subject)
) STRICT, WITHOUT ROWID;
INSERT INTO new_installations (installation_id, app_id, subject, device_type, registration_id,
    is_development, created_ms, updated_ms)
SELECT installation_id, app_id, subject, device_type, registration_id, is_development, created_ms,
    created_ms FROM installations;
DROP TABLE installations;
ALTER TABLE new_installations RENAME TO installations;
CREATE INDEX installations_by_subject ON installations (app_id, subject);
CREATE TABLE mqtt_endpoints (
    installation_id  TEXT PRIMARY KEY REFERENCES installations ON DELETE CASCADE,
    username         TEXT NOT NULL UNIQUE,
    password_hash    BLOB NOT NULL,
    mqtt_topic       TEXT NOT NULL UNIQUE,
    expires_ms       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO mqtt_endpoints SELECT * FROM endpoints_aside;
DROP TABLE endpoints_aside;

-- What an app shows a push network to be let in. sealed: encrypted (AES-GCM) under the server's key or
-- that of security.encryption_key_file. summary: JSON, what may be shown.
CREATE TABLE network_credentials (
    app_id      TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
    network     TEXT NOT NULL,
    sealed      BLOB NOT NULL,
    summary     TEXT NOT NULL,
    changed_ms  INTEGER NOT NULL,
    PRIMARY KEY (app_id, network)
) STRICT, WITHOUT ROWID;

-- The old limit of Apple's payloads, 2,048 bytes, for apps whose clients were built around it.
ALTER TABLE apps ADD COLUMN is_apns_payload_small INTEGER NOT NULL DEFAULT 0;

-- Names of the networks the app has credentials for, with blanks between: on the path of every object
-- write, which makes jobs only for these.
ALTER TABLE apps ADD COLUMN networks TEXT NOT NULL DEFAULT '';
-- Whether a message that does not say so goes to phones only of owners whom no live connection reached.
ALTER TABLE apps ADD COLUMN is_delivery_once INTEGER NOT NULL DEFAULT 0;

-- The network a device is reached by, and the payload it takes if a push has several for a network.
ALTER TABLE installations ADD COLUMN network TEXT GENERATED ALWAYS AS (
    CASE device_type
    WHEN 'IOS' THEN CASE service WHEN 'firebase' THEN 'fcm' ELSE 'apns' END
    WHEN 'ANDROID' THEN 'fcm'
    ELSE lower(device_type) END
) VIRTUAL;
ALTER TABLE installations ADD COLUMN variant TEXT GENERATED ALWAYS AS (
    CASE WHEN device_type = 'IOS' AND service = 'firebase' THEN 'fcm:ios'
    ELSE network || ':' || framework END
) VIRTUAL;

-- What is to be sent to the phones of one push (a message, an event) over one network. message_id: empty
-- for what has none. place: what it was sent to. payloads: JSON by variant. audience: JSON. cursor: how
-- far the audience has been made into deliveries, is_expanded: to its end. ready_ms: not before.
-- expires_ms: what is not sent by then is not sent at all.
CREATE TABLE push_jobs (
    job_key         INTEGER PRIMARY KEY AUTOINCREMENT,
    app_id          TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
    network         TEXT NOT NULL,
    message_id      TEXT NOT NULL,
    place           TEXT NOT NULL,
    payloads        TEXT NOT NULL,
    audience        TEXT NOT NULL,
    to_development  INTEGER NOT NULL,
    to_production   INTEGER NOT NULL,
    is_once         INTEGER NOT NULL,
    created_ms      INTEGER NOT NULL,
    ready_ms        INTEGER NOT NULL,
    expires_ms      INTEGER NOT NULL,
    cursor          TEXT NOT NULL DEFAULT '',
    is_expanded     INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX push_jobs_waiting ON push_jobs (network, app_id, ready_ms) WHERE is_expanded = 0;
-- Used only by what says `message_id != ''` beside `message_id = ?`.
CREATE INDEX push_jobs_by_message ON push_jobs (message_id) WHERE message_id != '';
CREATE INDEX push_jobs_by_time ON push_jobs (created_ms);
CREATE INDEX push_jobs_of_events ON push_jobs (created_ms) WHERE message_id = '';
CREATE INDEX push_jobs_by_app ON push_jobs (app_id);

-- One device of a job. subject: whose device it was when the job was expanded. ready_ms: when it may be
-- tried (again). ending: NULL while it is open; code: the network's last word.
CREATE TABLE push_deliveries (
    job_key          INTEGER NOT NULL REFERENCES push_jobs ON DELETE CASCADE,
    installation_id  TEXT NOT NULL,
    subject          TEXT NOT NULL,
    network          TEXT NOT NULL,
    app_id           TEXT NOT NULL,
    attempts         INTEGER NOT NULL DEFAULT 0,
    ready_ms         INTEGER NOT NULL,
    ending           TEXT,
    code             TEXT NOT NULL DEFAULT '',
    done_ms          INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job_key, installation_id)
) STRICT, WITHOUT ROWID;
-- `ending` stands in it so that counting reads the index alone.
CREATE INDEX push_deliveries_open ON push_deliveries (network, app_id, ready_ms, ending)
    WHERE ending IS NULL;
CREATE INDEX push_deliveries_by_installation ON push_deliveries (installation_id, done_ms)
    WHERE ending IS NOT NULL;

-- Whom live connections reached with a message that is for phones only where none did.
CREATE TABLE push_reached (
    message_id  TEXT NOT NULL REFERENCES messages ON DELETE CASCADE,
    subject     TEXT NOT NULL,
    PRIMARY KEY (message_id, subject)
) STRICT, WITHOUT ROWID;

-- Jobs that wait, counted: what one app may have is bounded, and counting rows is not free.
CREATE TABLE push_queues (
    app_id   TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
    network  TEXT NOT NULL,
    waiting  INTEGER NOT NULL,
    PRIMARY KEY (app_id, network)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER push_job_made AFTER INSERT ON push_jobs WHEN new.is_expanded = 0 BEGIN
    INSERT INTO push_queues VALUES (new.app_id, new.network, 1)
        ON CONFLICT DO UPDATE SET waiting = waiting + 1;
END;
CREATE TRIGGER push_job_expanded AFTER UPDATE OF is_expanded ON push_jobs
WHEN old.is_expanded = 0 AND new.is_expanded = 1 BEGIN
    UPDATE push_queues SET waiting = waiting - 1
        WHERE app_id = new.app_id AND network = new.network;
END;
CREATE TRIGGER push_job_deleted AFTER DELETE ON push_jobs WHEN old.is_expanded = 0 BEGIN
    UPDATE push_queues SET waiting = waiting - 1
        WHERE app_id = old.app_id AND network = old.network;
END;
