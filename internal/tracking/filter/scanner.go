package filter

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/moorage-ml/moorage/internal/store"
)

// scanner reads one piece of a filter at a time. The grammar is regular but for where a piece stands: `5` is a key after
// a dot and a number after an operator, so the parser asks for what it expects.
type scanner struct {
	text string
	pos  int
}

func (s *scanner) end() bool { return s.pos >= len(s.text) }

func (s *scanner) rest() string { return s.text[s.pos:] }

func (s *scanner) skip() {
	s.pos = len(s.text) - len(strings.TrimLeftFunc(s.rest(), unicode.IsSpace))
}

func bareRune(r rune) bool {
	return r == '_' || r == '.' || unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)
}

// take consumes the longest run of runes that satisfy ok.
func (s *scanner) take(ok func(rune) bool) string {
	n := strings.IndexFunc(s.rest(), func(r rune) bool { return !ok(r) })
	if n < 0 {
		n = len(s.rest())
	}
	out := s.rest()[:n]
	s.pos += n
	return out
}

// keyword consumes a word, in any case, if it is what comes next.
func (s *scanner) keyword(word string) bool {
	from := s.pos
	if strings.EqualFold(s.take(bareRune), word) {
		return true
	}
	s.pos = from
	return false
}

// word is the piece that comes next, for a message.
func (s *scanner) word() string {
	piece, _, _ := strings.Cut(s.rest(), " ")
	if piece == "" {
		return "nothing"
	}
	return clip(piece)
}

// stray is the problem with what comes next.
func (s *scanner) stray() error {
	return invalid("Invalid clause(s) in filter string: '%s'", clip(s.rest()))
}

// name is an identifier as written: entity is empty when there is none.
type name struct{ entity, key string }

// identifier reads [entity "."] key. The first dot ends the entity; a key may be quoted in three ways.
func (s *scanner) identifier() (name, error) {
	if key, ok, err := s.quotedBy("`\"'"); ok || err != nil {
		return name{key: key}, err
	}
	bare := s.take(bareRune)
	entity, key, dotted := strings.Cut(bare, ".")
	switch {
	case bare == "":
		return name{}, s.stray()
	case !dotted:
		return name{key: bare}, nil
	case key != "":
		return name{entity: entity, key: key}, nil
	}
	key, ok, err := s.quotedBy("`\"'")
	if err != nil {
		return name{}, err
	}
	if !ok || key == "" {
		return name{}, invalid("Invalid identifier '%s' in filter string: the key is missing", clip(bare))
	}
	return name{entity: entity, key: key}, nil
}

// quotedBy reads a text between one of the given quotes, if one comes next. A doubled quote stays two quotes.
func (s *scanner) quotedBy(quotes string) (string, bool, error) {
	if s.end() || !strings.ContainsRune(quotes, rune(s.text[s.pos])) {
		return "", false, nil
	}
	q := s.text[s.pos]
	for i := s.pos + 1; i < len(s.text); i++ {
		if s.text[i] != q {
			continue
		}
		if i+1 < len(s.text) && s.text[i+1] == q {
			i++
			continue
		}
		out := s.text[s.pos+1 : i]
		s.pos = i + 1
		return out, true, nil
	}
	return "", false, s.stray()
}

func (s *scanner) quoted() (string, bool, error) { return s.quotedBy(`'"`) }

// number reads [-] digits [. digits] [e[+-]digits] or [-] . digits.
func (s *scanner) number() (float64, bool, error) {
	from := s.pos
	text := s.take(func(r rune) bool { return bareRune(r) || r == '-' || r == '+' })
	if !numeral(text) {
		s.pos = from
		return 0, false, nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, false, invalid("number %s is out of range", clip(text))
	}
	return n, true, nil
}

func numeral(s string) bool {
	digits := func() bool {
		n := len(s) - len(strings.TrimLeft(s, "0123456789"))
		s = s[n:]
		return n > 0
	}
	s = strings.TrimPrefix(s, "-")
	if strings.HasPrefix(s, ".") {
		s = s[1:]
		return digits() && s == ""
	}
	if !digits() {
		return false
	}
	if strings.HasPrefix(s, ".") {
		s = s[1:]
		if !digits() {
			return false
		}
	}
	if s == "" {
		return true
	}
	if s[0] != 'e' && s[0] != 'E' {
		return false
	}
	if s = s[1:]; s != "" && (s[0] == '+' || s[0] == '-') {
		s = s[1:]
	}
	return digits() && s == ""
}

// list reads ( string { , string } ).
func (s *scanner) list() ([]string, error) {
	bad := invalid("While parsing a list in the query, expected a non-empty list of quoted strings in parentheses, such as ('a', 'b')")
	if !strings.HasPrefix(s.rest(), "(") {
		return nil, bad
	}
	s.pos++
	var out []string
	for {
		s.skip()
		text, ok, err := s.quoted()
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, bad
		}
		if out = append(out, text); len(out) > MaxValues {
			return nil, invalid("the list has more than %d values", MaxValues)
		}
		s.skip()
		switch {
		case strings.HasPrefix(s.rest(), ","):
			s.pos++
		case strings.HasPrefix(s.rest(), ")"):
			s.pos++
			return out, nil
		default:
			return nil, bad
		}
	}
}

// operator reads a comparator, of signs or of words. IS is followed by [NOT] NULL, and NOT by IN.
func (s *scanner) operator() (store.Operator, error) {
	if signs := s.take(func(r rune) bool { return strings.ContainsRune("=!<>~", r) }); signs != "" {
		return store.Operator(signs), nil
	}
	from := s.pos
	word := store.Operator(strings.ToUpper(s.take(bareRune)))
	switch word {
	case "":
		if s.end() {
			return "", invalid("Invalid clause(s) in filter string: '%s' has no comparator", clip(s.text))
		}
		r, n := utf8.DecodeRuneInString(s.rest())
		if s.pos += n; strings.ContainsRune("();,'\"`", r) {
			s.pos = from
			return "", s.stray()
		}
		return store.Operator(r), nil
	case "IS":
		s.skip()
		not := s.keyword("NOT")
		s.skip()
		if !s.keyword("NULL") {
			s.pos = from
			return "", s.stray()
		}
		if not {
			return store.Present, nil
		}
		return store.Missing, nil
	case "NOT":
		s.skip()
		if !s.keyword("IN") {
			s.pos = from
			return "", s.stray()
		}
		return store.NotIn, nil
	case "AND", "OR":
		s.pos = from
		return "", s.stray()
	}
	return word, nil
}
