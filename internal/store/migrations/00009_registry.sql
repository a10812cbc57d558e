-- +goose Up

-- Images that the server keeps, as OCI distribution has them. Bytes lie in the blob store in parts, in the order in which
-- they came: an upload owns its parts, and so does the blob that it became.
CREATE TABLE registry_uploads (
    id           TEXT   NOT NULL PRIMARY KEY, -- a ULID
    workspace_id TEXT   NOT NULL,
    repository   TEXT   NOT NULL,
    size         BIGINT NOT NULL, -- bytes received
    parts        BIGINT NOT NULL,
    hash         BYTEA  NOT NULL, -- the state of SHA-256 over them
    modified     BIGINT NOT NULL  -- on the database's clock
);
CREATE INDEX registry_uploads_modified ON registry_uploads (modified);

CREATE TABLE registry_parts (
    owner  TEXT   NOT NULL, -- the id of the upload that brought it
    number BIGINT NOT NULL, -- from 0
    place  TEXT   NOT NULL, -- name of the blob
    size   BIGINT NOT NULL,
    PRIMARY KEY (owner, number)
);
CREATE UNIQUE INDEX registry_parts_place ON registry_parts (place);

-- The bytes of a digest are kept once for all workspaces; who may reach them, the links say.
CREATE TABLE registry_blobs (
    digest TEXT   NOT NULL PRIMARY KEY, -- algorithm:hexadecimal digits
    size   BIGINT NOT NULL,
    owner  TEXT   NOT NULL
);

-- A blob is in a repository.
CREATE TABLE registry_links (
    workspace_id TEXT   NOT NULL,
    repository   TEXT   NOT NULL,
    digest       TEXT   NOT NULL,
    pinned       BIGINT NOT NULL, -- it is not swept before this time on the database's clock
    PRIMARY KEY (workspace_id, repository, digest)
);
CREATE INDEX registry_links_digest ON registry_links (digest);

CREATE TABLE registry_manifests (
    workspace_id  TEXT   NOT NULL,
    repository    TEXT   NOT NULL,
    digest        TEXT   NOT NULL,
    media_type    TEXT   NOT NULL,
    artifact_type TEXT   NOT NULL,
    subject       TEXT   NOT NULL, -- digest of the manifest that this one says something about, or empty
    annotations   TEXT   NOT NULL, -- JSON, an object of texts
    size          BIGINT NOT NULL,
    content       BYTEA  NOT NULL,
    pinned        BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, repository, digest)
);
CREATE INDEX registry_manifests_subject ON registry_manifests (workspace_id, repository, subject, digest) WHERE subject <> '';

-- The blobs and manifests that a manifest is made of.
CREATE TABLE registry_references (
    workspace_id TEXT NOT NULL,
    repository   TEXT NOT NULL,
    manifest     TEXT NOT NULL,
    digest       TEXT NOT NULL,
    PRIMARY KEY (workspace_id, repository, manifest, digest)
);
CREATE INDEX registry_references_digest ON registry_references (workspace_id, repository, digest);

CREATE TABLE registry_tags (
    workspace_id TEXT   NOT NULL,
    repository   TEXT   NOT NULL,
    name         TEXT   NOT NULL,
    digest       TEXT   NOT NULL,
    modified     BIGINT NOT NULL, -- milliseconds since the epoch
    PRIMARY KEY (workspace_id, repository, name)
);
CREATE INDEX registry_tags_digest ON registry_tags (workspace_id, repository, digest);

-- +goose Down
DROP TABLE registry_tags;
DROP TABLE registry_references;
DROP TABLE registry_manifests;
DROP TABLE registry_links;
DROP TABLE registry_blobs;
DROP TABLE registry_parts;
DROP TABLE registry_uploads;
