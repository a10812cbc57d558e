// Package keeper runs jobs on a target and remembers them there. It is one static program with two roles, and the client
// by which the server speaks to it:
//
//   - the agent, one process per connection, without state: it answers requests over one multiplexed byte stream;
//   - the supervisor, one process per job: parent and reaper of the job's tree of processes. It outlives every
//     connection and records how the job ended.
//
// What they know stands in files, see folder.go; a killed agent means nothing, a killed supervisor means that the tree is
// ended and the job lost. Nothing listens on the network but a loopback port per job for its way back to the server.
//
// The package must stay small, because it is copied to targets and started once per job: it imports no driver and no
// server code. It is used by cmd/keeper, cmd/moorage and, through Client, by compute/internal/kept.
package keeper
