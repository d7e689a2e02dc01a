-- The second dialect: what its users, devices and collections have that the first has not.

ALTER TABLE users ADD COLUMN modified_ms INTEGER NOT NULL DEFAULT 0;

-- What an operator chose for an app; a setting that is left out has its default.
CREATE TABLE kinvey_settings (
    app_id    TEXT PRIMARY KEY REFERENCES apps ON DELETE CASCADE,
    settings  TEXT NOT NULL
) STRICT, WITHOUT ROWID;
