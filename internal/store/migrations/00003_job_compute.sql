-- +goose Up
-- A job outlives its compute, and keeps the name of it.
ALTER TABLE jobs ADD COLUMN compute_name TEXT NOT NULL DEFAULT '';
UPDATE jobs SET compute_name = coalesce((SELECT c.name FROM computes c WHERE c.id = jobs.compute_id), '');
