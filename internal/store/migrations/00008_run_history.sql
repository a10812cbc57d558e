-- +goose Up

-- What Azure's run history knows of a run beyond the tables of tracking. A run that none of its clients touched has no row.
CREATE TABLE run_records (
    run        BIGINT NOT NULL PRIMARY KEY,
    state      TEXT   NOT NULL, -- Azure's word for the status; it counts while runs.status means the same
    run_type   TEXT   NOT NULL,
    target     TEXT   NOT NULL,
    hidden     BIGINT NOT NULL,
    properties TEXT   NOT NULL, -- JSON, an object of texts; a job's are in its own row
    body       TEXT   NOT NULL  -- JSON, what is only shown
);

-- One row for each metric that Azure's clients logged: its type, and how many values it has. The values of numeric scalars
-- are points like any other; those of the rest are rows.
CREATE TABLE run_metrics (
    run      BIGINT NOT NULL,
    key      TEXT   NOT NULL,
    number   BIGINT NOT NULL, -- under which its rows are kept
    kind     TEXT   NOT NULL, -- azureml.v1.scalar, …
    columns  TEXT   NOT NULL, -- JSON, name → type, in the client's order
    size     BIGINT NOT NULL, -- values logged so far
    filed    BIGINT NOT NULL, -- values in the artifact that shows them
    stepped  BIGINT NOT NULL, -- 1 = a client gave steps; 0 = they count the values
    unsorted BIGINT NOT NULL, -- 0 = its points are in order; else from this one on, counted from 1, they may not be
    PRIMARY KEY (run, key)
);
CREATE UNIQUE INDEX run_metrics_number ON run_metrics (number);

-- The client sends batches side by side, so values are in the order of their times and not of their coming. Points have
-- milliseconds, which hold many; what one batch brought of a metric is a chunk of known time.
CREATE TABLE run_metric_chunks (
    series BIGINT NOT NULL,
    moment BIGINT NOT NULL, -- of its first value, in microseconds since the epoch
    at     BIGINT NOT NULL, -- the step of its first value
    size   BIGINT NOT NULL,
    PRIMARY KEY (series, moment, at)
);

CREATE TABLE run_metric_rows (
    series BIGINT NOT NULL,
    moment BIGINT NOT NULL, -- in microseconds since the epoch
    at     BIGINT NOT NULL, -- as which value it came, from 0
    data   TEXT   NOT NULL, -- JSON, column → value
    PRIMARY KEY (series, moment, at)
);

-- The batches that a run has taken, so that one which a client sends again adds nothing.
CREATE TABLE run_metric_batches (
    run BIGINT NOT NULL,
    id  TEXT   NOT NULL,
    PRIMARY KEY (run, id)
);

-- +goose Down
DROP TABLE run_metric_batches;
DROP TABLE run_metric_rows;
DROP TABLE run_metric_chunks;
DROP TABLE run_metrics;
DROP TABLE run_records;
