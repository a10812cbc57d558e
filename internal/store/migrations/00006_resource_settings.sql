-- +goose Up
-- What a driver needs beside the address, for clients that give nothing but a resource id. Secrets are sealed apart.
ALTER TABLE resources ADD COLUMN settings TEXT NOT NULL DEFAULT '';
ALTER TABLE resources ADD COLUMN secret_id TEXT NOT NULL DEFAULT '';
