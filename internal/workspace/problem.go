package workspace

import "strings"

// Class sorts problems by what the caller can do about them. Each dialect maps it to its own status once.
type Class string

// The classes. A Problem without one is Internal.
const (
	Internal        Class = ""                // our fault, or the machine's
	Invalid         Class = "invalid"         // the request can never succeed as it is
	NotFound        Class = "not_found"       // the named thing is not there
	Conflict        Class = "conflict"        // the named thing is in a state that forbids it, or exists already
	Unauthenticated Class = "unauthenticated" // no token, or one that is wrong or expired
	Denied          Class = "denied"          // a known caller without the right
	Unsupported     Class = "unsupported"     // understood, and not built here
	TooLarge        Class = "too_large"       // over a stated limit
	Throttled       Class = "throttled"       // come back later
	Unavailable     Class = "unavailable"     // a machine or service that we need does not answer now
)

// Problem is a failure that a person can meet: the thing, the cause, and the mend. It is an error, and it travels
// unchanged from the target to the client. It never holds a secret.
type Problem struct {
	Class   Class  `json:"class,omitempty"`
	Code    string `json:"code"`             // stable, CamelCase: what programs test, e.g. "HostKeyChanged"
	Message string `json:"message"`          // what is wrong with which thing, one sentence without a full stop
	Cause   string `json:"cause,omitempty"`  // what was seen, in the words of the machine that saw it
	Mend    string `json:"mend,omitempty"`   // what the person should do; a command where there is one
	Target  string `json:"target,omitempty"` // the field, compute or job that it is about
	Warning bool   `json:"warning,omitempty"`
}

// Error is message, cause and mend on one line.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Message)
	if p.Cause != "" {
		b.WriteString(": " + p.Cause)
	}
	if p.Mend != "" {
		b.WriteString(". " + strings.ToUpper(p.Mend[:1]) + p.Mend[1:])
	}
	return b.String()
}

// Is lets errors.Is match a problem by its code alone: errors.Is(err, &Problem{Code: "HostKeyChanged"}).
func (p *Problem) Is(target error) bool {
	q, ok := target.(*Problem)
	return ok && q.Code == p.Code
}
