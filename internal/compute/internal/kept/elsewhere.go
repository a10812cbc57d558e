package kept

import (
	"context"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/keeper"
)

// Job is a job in the keeper's words, without its secrets. For kinds that start the supervisor themselves.
func Job(j compute.Job) keeper.Job { return toJob(j) }

// Status is a keeper's status in the words of the contract.
func Status(key compute.Key, s keeper.Status) compute.Status { return fromStatus(key, s) }

// Failed makes an error of the contract of one that a keeper's client gave.
func Failed(ctx context.Context, err error) error { return (*Target)(nil).failed(ctx, err) }

// Do calls fn with a connection to the agent, and once more with a fresh one if it was lost. For what kinds ask of an agent
// beyond the contract.
func (t *Target) Do(ctx context.Context, fn func(*keeper.Client) error) error { return t.do(ctx, fn) }
