package workspace

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
)

// Secret is text that must not be shown. Printing, logging and encoding it give "[secret]"; Reveal gives the text.
type Secret struct{ text string }

// NewSecret wraps text.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal is the text itself, for the one place that hands it to a target.
func (s Secret) Reveal() string { return s.text }

// ProxyWord is what a client on another machine shows to the server as its proxy, made of the administrator's secret. It
// may be read on its way: it is good for nothing else, and the secret cannot be told from it.
func (s Secret) ProxyWord() Secret {
	mac := hmac.New(sha256.New, []byte(s.text))
	_, _ = mac.Write([]byte("moorage proxy")) // never fails
	return Secret{hex.EncodeToString(mac.Sum(nil))}
}

// Empty tells whether there is no text.
func (s Secret) Empty() bool { return s.text == "" }

// String hides the text.
func (s Secret) String() string { return "[secret]" }

// GoString hides the text.
func (s Secret) GoString() string { return "[secret]" }

// LogValue hides the text.
func (s Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalJSON hides the text.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal("[secret]") }
