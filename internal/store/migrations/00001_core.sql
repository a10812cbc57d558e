-- One text for SQLite and PostgreSQL. Times are milliseconds since the epoch, truth is BIGINT 0 or 1, JSON is TEXT,
-- BYTEA keeps bytes in both. Ids of jobs are ULIDs, so their order is that of their making.

-- +goose Up
CREATE TABLE workspaces (
    id             TEXT   NOT NULL PRIMARY KEY,
    subscription   TEXT   NOT NULL,
    resource_group TEXT   NOT NULL,
    name           TEXT   NOT NULL,
    location       TEXT   NOT NULL,
    created        BIGINT NOT NULL
);
CREATE UNIQUE INDEX workspaces_path ON workspaces (name, lower(resource_group), lower(subscription));

CREATE TABLE computes (
    id            TEXT   NOT NULL PRIMARY KEY,
    workspace_id  TEXT   NOT NULL,
    name          TEXT   NOT NULL,
    kind          TEXT   NOT NULL,
    address       TEXT   NOT NULL,
    resource_id   TEXT   NOT NULL,
    identity      TEXT   NOT NULL,
    secret_id     TEXT   NOT NULL,
    state         TEXT   NOT NULL,
    health        TEXT   NOT NULL,
    health_reason TEXT   NOT NULL,
    health_since  BIGINT NOT NULL,
    slots         BIGINT NOT NULL,
    due           BIGINT,
    created       BIGINT NOT NULL,
    modified      BIGINT NOT NULL,
    created_by    TEXT   NOT NULL,
    alias         TEXT   NOT NULL,
    facts         TEXT   NOT NULL,
    settings      TEXT   NOT NULL,
    doc           TEXT   NOT NULL
);
CREATE UNIQUE INDEX computes_name ON computes (workspace_id, name);
CREATE UNIQUE INDEX computes_identity ON computes (workspace_id, identity) WHERE identity <> '';
CREATE INDEX computes_due ON computes (due) WHERE due IS NOT NULL;

-- Written often by several servers, so it stands alone and is narrow. A row outlives its holder: epochs never go back.
CREATE TABLE leases (
    compute_id TEXT   NOT NULL PRIMARY KEY,
    holder     TEXT   NOT NULL,
    epoch      BIGINT NOT NULL,
    expires    BIGINT NOT NULL
);
CREATE INDEX leases_holder ON leases (holder);

CREATE TABLE jobs (
    id                  TEXT   NOT NULL PRIMARY KEY,
    workspace_id        TEXT   NOT NULL,
    name                TEXT   NOT NULL,
    compute_id          TEXT   NOT NULL,
    experiment          TEXT   NOT NULL,
    display_name        TEXT   NOT NULL,
    job_type            TEXT   NOT NULL,
    state               TEXT   NOT NULL,
    reason              TEXT   NOT NULL,
    position            BIGINT NOT NULL,
    wish                TEXT   NOT NULL,
    phase               TEXT   NOT NULL,
    priority            BIGINT NOT NULL,
    attempt             BIGINT NOT NULL,
    ref                 TEXT   NOT NULL,
    exit_code           BIGINT,
    error               TEXT   NOT NULL,
    gpus                BIGINT NOT NULL,
    created             BIGINT NOT NULL,
    submitted           BIGINT NOT NULL,
    started             BIGINT NOT NULL,
    ended               BIGINT NOT NULL,
    due                 BIGINT,
    failures            BIGINT NOT NULL,
    generation          BIGINT NOT NULL,
    observed_generation BIGINT NOT NULL,
    log_size            BIGINT NOT NULL,
    created_by          TEXT   NOT NULL,
    parent_id           TEXT   NOT NULL,
    archived            BIGINT NOT NULL,
    tags                TEXT   NOT NULL,
    properties          TEXT   NOT NULL
);
CREATE UNIQUE INDEX jobs_name ON jobs (workspace_id, name);
-- Each list has an index that holds all that it asks for, and then the order.
CREATE INDEX jobs_list ON jobs (workspace_id, archived, id);
CREATE INDEX jobs_state ON jobs (workspace_id, state, archived, id);
CREATE INDEX jobs_compute ON jobs (compute_id, state, archived, id);
CREATE INDEX jobs_experiment ON jobs (workspace_id, experiment, archived, id);
CREATE INDEX jobs_parent ON jobs (parent_id, id) WHERE parent_id <> '';
CREATE INDEX jobs_due ON jobs (compute_id, priority DESC, id) WHERE due IS NOT NULL;
-- Apart from jobs_due, so that what waits to be released does not stand in the way of the queue.
CREATE INDEX jobs_queue ON jobs (compute_id, priority DESC, id) WHERE due IS NOT NULL AND phase = 'accepted';
CREATE INDEX jobs_release ON jobs (compute_id, due) WHERE phase = 'collected';

-- The large part of a job, apart from the row that every change of state writes anew.
CREATE TABLE job_bodies (
    job_id     TEXT NOT NULL PRIMARY KEY,
    doc        TEXT NOT NULL,
    spec       TEXT NOT NULL,
    log_inline BYTEA
);

CREATE TABLE job_files (
    job_id   TEXT   NOT NULL,
    output   TEXT   NOT NULL,
    path     TEXT   NOT NULL,
    size     BIGINT NOT NULL,
    mode     BIGINT NOT NULL,
    modified BIGINT NOT NULL,
    place    TEXT   NOT NULL,
    PRIMARY KEY (job_id, output, path)
);

CREATE TABLE documents (
    id           TEXT   NOT NULL PRIMARY KEY,
    workspace_id TEXT   NOT NULL,
    collection   TEXT   NOT NULL,
    name         TEXT   NOT NULL,
    version      TEXT   NOT NULL,
    hash         TEXT   NOT NULL,
    created      BIGINT NOT NULL,
    modified     BIGINT NOT NULL,
    created_by   TEXT   NOT NULL,
    modified_by  TEXT   NOT NULL,
    body         TEXT   NOT NULL
);
CREATE UNIQUE INDEX documents_version ON documents (workspace_id, collection, name, version);
CREATE INDEX documents_list ON documents (workspace_id, collection, id);
CREATE INDEX documents_name ON documents (workspace_id, collection, name, id);
CREATE INDEX documents_hash ON documents (workspace_id, collection, hash) WHERE hash <> '';

CREATE TABLE secrets (
    id     TEXT  NOT NULL PRIMARY KEY,
    sealed BYTEA NOT NULL
);

CREATE TABLE settings (
    key   TEXT  NOT NULL PRIMARY KEY,
    value BYTEA NOT NULL
);

CREATE TABLE resources (
    id      TEXT   NOT NULL PRIMARY KEY,
    shown   TEXT   NOT NULL,
    address TEXT   NOT NULL,
    created BIGINT NOT NULL
);

CREATE TABLE audit (
    id           TEXT   NOT NULL PRIMARY KEY,
    at           BIGINT NOT NULL,
    principal    TEXT   NOT NULL,
    workspace_id TEXT   NOT NULL,
    action       TEXT   NOT NULL,
    target       TEXT   NOT NULL,
    outcome      TEXT   NOT NULL,
    detail       TEXT   NOT NULL
);
CREATE INDEX audit_workspace ON audit (workspace_id, id);

CREATE TABLE environments (
    compute_id TEXT   NOT NULL,
    hash       TEXT   NOT NULL,
    phase      TEXT   NOT NULL,
    last_used  BIGINT NOT NULL,
    problem    TEXT   NOT NULL,
    spec       TEXT   NOT NULL,
    PRIMARY KEY (compute_id, hash)
);

-- until is on the database's own clock; one that is negative marks an object that a sweep is removing, since then.
CREATE TABLE pins (
    hash  TEXT   NOT NULL PRIMARY KEY,
    until BIGINT NOT NULL
);
CREATE INDEX pins_until ON pins (until);
