-- Addresses under which anybody may read the body of an object. They end with the body.
CREATE TABLE publications (
    publication_id  TEXT PRIMARY KEY,
    source_key      INTEGER NOT NULL,
    object_id       TEXT NOT NULL,
    expires_ms      INTEGER NOT NULL,
    FOREIGN KEY (source_key, object_id) REFERENCES bodies (source_key, object_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX publications_by_body ON publications (source_key, object_id, expires_ms);
