-- +goose Up

-- Experiments are numbered per workspace, from 0 (Default); clients insist on decimal ids (mlflow.md §2).
CREATE TABLE experiments (
    workspace_id      TEXT   NOT NULL,
    id                BIGINT NOT NULL,
    name              TEXT   NOT NULL,
    artifact_location TEXT   NOT NULL, -- '' = the server's own artifact store
    stage             TEXT   NOT NULL, -- active, deleted
    created           BIGINT NOT NULL,
    updated           BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, id)
);
CREATE UNIQUE INDEX experiments_name ON experiments (workspace_id, name);

CREATE TABLE experiment_counters (
    workspace_id TEXT   NOT NULL PRIMARY KEY,
    next         BIGINT NOT NULL
);

CREATE TABLE experiment_tags (
    workspace_id  TEXT   NOT NULL,
    experiment_id BIGINT NOT NULL,
    key           TEXT   NOT NULL,
    value         TEXT   NOT NULL,
    PRIMARY KEY (workspace_id, experiment_id, key)
);

-- A run has a client's id, unique in its workspace, and a number of ours, which the narrow tables below hold.
CREATE TABLE runs (
    number        BIGINT NOT NULL PRIMARY KEY,
    workspace_id  TEXT   NOT NULL,
    id            TEXT   NOT NULL,
    experiment_id BIGINT NOT NULL,
    job           BIGINT NOT NULL, -- 1 = a job of the same name moves its status
    parent_id     TEXT   NOT NULL, -- '' = none; follows the tags mlflow.parentRunId and mlflow.rootRunId
    name          TEXT   NOT NULL,
    user_id       TEXT   NOT NULL,
    status        TEXT   NOT NULL,
    stage         TEXT   NOT NULL,
    start_time    BIGINT NOT NULL,
    end_time      BIGINT
);
CREATE UNIQUE INDEX runs_id ON runs (workspace_id, id);
CREATE INDEX runs_newest ON runs (workspace_id, experiment_id, start_time DESC, id);
CREATE INDEX runs_parent ON runs (workspace_id, parent_id) WHERE parent_id <> '';

CREATE TABLE run_params (
    run   BIGINT NOT NULL,
    key   TEXT   NOT NULL,
    value TEXT   NOT NULL,
    PRIMARY KEY (run, key)
);

CREATE TABLE run_tags (
    run   BIGINT NOT NULL,
    key   TEXT   NOT NULL,
    value TEXT   NOT NULL,
    PRIMARY KEY (run, key)
);

-- One row for each metric of a run: its latest point, and the number under which its points are kept.
-- NaN is value 0 with nan 1, because SQLite has no NaN.
CREATE TABLE run_series (
    run       BIGINT           NOT NULL,
    key       TEXT             NOT NULL,
    number    BIGINT           NOT NULL,
    step      BIGINT           NOT NULL,
    timestamp BIGINT           NOT NULL,
    value     DOUBLE PRECISION NOT NULL,
    nan       BIGINT           NOT NULL,
    PRIMARY KEY (run, key)
);
CREATE UNIQUE INDEX run_series_number ON run_series (number);

-- The identity of a point is all of it, so a repeated request adds nothing.
CREATE TABLE run_points (
    series    BIGINT           NOT NULL,
    timestamp BIGINT           NOT NULL,
    step      BIGINT           NOT NULL,
    value     DOUBLE PRECISION NOT NULL,
    nan       BIGINT           NOT NULL,
    PRIMARY KEY (series, timestamp, step, value, nan)
);

CREATE TABLE datasets (
    number        BIGINT NOT NULL PRIMARY KEY,
    workspace_id  TEXT   NOT NULL,
    experiment_id BIGINT NOT NULL,
    name          TEXT   NOT NULL,
    digest        TEXT   NOT NULL,
    source_type   TEXT   NOT NULL,
    source        TEXT   NOT NULL,
    schema        TEXT   NOT NULL,
    profile       TEXT   NOT NULL
);
CREATE UNIQUE INDEX datasets_identity ON datasets (workspace_id, experiment_id, name, digest);

CREATE TABLE run_datasets (
    run     BIGINT NOT NULL,
    dataset BIGINT NOT NULL,
    PRIMARY KEY (run, dataset)
);

CREATE TABLE run_dataset_tags (
    run     BIGINT NOT NULL,
    dataset BIGINT NOT NULL,
    key     TEXT   NOT NULL,
    value   TEXT   NOT NULL,
    PRIMARY KEY (run, dataset, key)
);

-- Logged models that a run read (input) or made (output).
CREATE TABLE run_models (
    run       BIGINT NOT NULL,
    direction TEXT   NOT NULL,
    model_id  TEXT   NOT NULL,
    step      BIGINT NOT NULL,
    PRIMARY KEY (run, direction, model_id)
);

-- +goose Down
DROP TABLE run_models;
DROP TABLE run_dataset_tags;
DROP TABLE run_datasets;
DROP TABLE datasets;
DROP TABLE run_points;
DROP TABLE run_series;
DROP TABLE run_tags;
DROP TABLE run_params;
DROP TABLE runs;
DROP TABLE experiment_tags;
DROP TABLE experiment_counters;
DROP TABLE experiments;
