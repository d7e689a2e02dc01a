-- Server code: hooks, their versions, schedules and what still has to run.

-- kind: 'hook' (name: the collection), 'endpoint' (name: its own), 'common' (put in front of every
-- script). code: what runs, JSON.
CREATE TABLE hooks (
    app_id       TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
    kind         TEXT NOT NULL,
    name         TEXT NOT NULL,
    function     TEXT NOT NULL,
    language     TEXT NOT NULL,
    code         TEXT NOT NULL,
    modified_ms  INTEGER NOT NULL,
    PRIMARY KEY (app_id, kind, name, function)
) STRICT, WITHOUT ROWID;

-- Where the HTTP services that hooks name are; set by the operator. sealed: the secret shared with it.
CREATE TABLE hook_services (
    app_id  TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
    name    TEXT NOT NULL,
    url     TEXT NOT NULL,
    sealed  BLOB NOT NULL,
    PRIMARY KEY (app_id, name)
) STRICT, WITHOUT ROWID;

-- Another number after each change of hooks and services of an app; no row: it never had one.
CREATE TABLE hook_stamps (
    app_id  TEXT PRIMARY KEY REFERENCES apps ON DELETE CASCADE,
    stamp   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Deployed server code. hooks: its hook document, JSON, empty for none.
CREATE TABLE server_code_versions (
    app_id      TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
    version_id  TEXT NOT NULL,
    source      TEXT NOT NULL,
    hooks       TEXT NOT NULL,
    is_current  INTEGER NOT NULL,
    created_ms  INTEGER NOT NULL,
    PRIMARY KEY (app_id, version_id)
) STRICT, WITHOUT ROWID;

-- Does the app's current version wait for anything? Known with every look-up of a bucket.
ALTER TABLE apps ADD COLUMN has_triggers INTEGER NOT NULL DEFAULT 0;

-- The hook document of the current version, by what it waits for. place: `users/*/buckets/inbox`.
CREATE TABLE server_code_triggers (
    app_id    TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
    place     TEXT NOT NULL,
    event     TEXT NOT NULL,
    endpoint  TEXT NOT NULL,
    PRIMARY KEY (app_id, place, event, endpoint)
) STRICT, WITHOUT ROWID;

-- kind: 'serverCode' (plan: a cron expression) or 'endpoint' (plan: start and interval, JSON).
CREATE TABLE schedules (
    app_id      TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
    kind        TEXT NOT NULL,
    name        TEXT NOT NULL,
    plan        TEXT NOT NULL,
    endpoint    TEXT NOT NULL,
    parameters  TEXT NOT NULL,
    next_ms     INTEGER NOT NULL,
    PRIMARY KEY (app_id, kind, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX schedules_by_time ON schedules (next_ms);

-- Runs that are due, written with what caused them and removed when they have run. depth: how many
-- runs led to this one.
CREATE TABLE server_code_jobs (
    job_id      INTEGER PRIMARY KEY AUTOINCREMENT,
    app_id      TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
    kind        TEXT NOT NULL,
    endpoint    TEXT NOT NULL,
    place       TEXT NOT NULL,
    parameters  TEXT NOT NULL,
    depth       INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    ready_ms    INTEGER NOT NULL,
    created_ms  INTEGER NOT NULL
) STRICT;
CREATE INDEX server_code_jobs_by_time ON server_code_jobs (ready_ms);
CREATE INDEX server_code_jobs_by_app ON server_code_jobs (app_id, ready_ms);

-- What running code said, and how runs failed; kept for hooks.log_retention_s.
CREATE TABLE hook_log (
    line_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    app_id      TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
    request_id  TEXT NOT NULL,
    at_ms       INTEGER NOT NULL,
    place       TEXT NOT NULL,
    function    TEXT NOT NULL,
    level       TEXT NOT NULL,
    message     TEXT NOT NULL
) STRICT;
CREATE INDEX hook_log_by_app ON hook_log (app_id, line_id);
CREATE INDEX hook_log_by_request ON hook_log (app_id, request_id);
CREATE INDEX hook_log_by_time ON hook_log (at_ms);
