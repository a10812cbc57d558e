-- +goose Up

-- One row for each image that environments of a workspace are made into, and where it goes.
CREATE TABLE image_builds (
    workspace_id TEXT   NOT NULL,
    hash         TEXT   NOT NULL, -- of what it is made of and of the place
    place        TEXT   NOT NULL, -- '' = the server's registry; else what the builder calls it
    recipe       TEXT   NOT NULL, -- JSON
    phase        TEXT   NOT NULL, -- wanted, building, ready, failed, canceled
    image        TEXT   NOT NULL, -- its name, once it is ready
    digest       TEXT   NOT NULL,
    problem      TEXT   NOT NULL, -- JSON: why it failed, or why it is tried again
    log          TEXT   NOT NULL, -- name of the blob with its log; '' = none yet
    tries        BIGINT NOT NULL,
    due          BIGINT NOT NULL, -- while wanted: not to be begun before, on the database's clock
    holder       TEXT   NOT NULL, -- the server that builds it
    epoch        BIGINT NOT NULL, -- rises with each begin
    expires      BIGINT NOT NULL, -- while building, on the database's clock
    stop         BIGINT NOT NULL, -- 1 = whoever builds it shall end
    created      BIGINT NOT NULL,
    started      BIGINT NOT NULL,
    ended        BIGINT NOT NULL,
    last_used    BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, hash)
);

-- +goose Down
DROP TABLE image_builds;
