-- The second dialect: what its users, devices and collections have that the first has not.

ALTER TABLE users ADD COLUMN modified_ms INTEGER NOT NULL DEFAULT 0;

-- What an operator chose for an app; a setting that is left out has its default.
CREATE TABLE kinvey_settings (
    app_id    TEXT PRIMARY KEY REFERENCES apps ON DELETE CASCADE,
    settings  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A bucket that is a collection too. permission: of its users, empty for the scope's default rights.
-- is_live: somebody subscribed by the Live Service, ever; most writes go to buckets nobody did.
ALTER TABLE sources ADD COLUMN permission TEXT NOT NULL DEFAULT '';
ALTER TABLE sources ADD COLUMN is_live INTEGER NOT NULL DEFAULT 0;

-- Installations registered for the Live Service. token_hash: of the session.
CREATE TABLE live_clients (
    installation_id  TEXT PRIMARY KEY REFERENCES installations ON DELETE CASCADE,
    app_id           TEXT NOT NULL,
    subject          TEXT NOT NULL,
    device_id        TEXT NOT NULL,
    token_hash       BLOB NOT NULL,
    created_ms       INTEGER NOT NULL,
    UNIQUE (app_id, subject, device_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE live_subscriptions (
    installation_id  TEXT NOT NULL REFERENCES live_clients ON DELETE CASCADE,
    source_key       INTEGER NOT NULL REFERENCES sources ON DELETE CASCADE,
    PRIMARY KEY (installation_id, source_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX live_subscriptions_by_source ON live_subscriptions (source_key);

-- A user that Kinvey's clients signed up may be read by other users; Kii's users may not.
ALTER TABLE users ADD COLUMN is_public INTEGER NOT NULL DEFAULT 0;
