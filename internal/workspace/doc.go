// Package workspace holds the words of the system as plain types: names, states and which may follow which,
// problems that a person can meet, principals. It does no I/O and imports nothing of ours, so every layer may use it.
package workspace
