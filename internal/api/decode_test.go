package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestReadJSONSaysWhereABodyIsBroken(t *testing.T) {
	deep := strings.Repeat("[", maxNesting+1) + strings.Repeat("]", maxNesting+1)
	tests := []struct{ name, body, want string }{
		{"missing colon on line 3", "{\n  \"a\": 1,\n  \"b\" 2\n}", "line 3, column 7"},
		{"ends too early", `{"a": [1, 2`, "line 1, column"},
		{"two values", `{} {}`, "line 1, column 4"},
		{"too deep", deep, "line 1, column 101"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadJSON(httptest.NewRequest(http.MethodPut, "/", strings.NewReader(tt.body)))
			p, ok := errors.AsType[*workspace.Problem](err)
			if !ok || p.Class != workspace.Invalid || p.Code != "InvalidJSON" || !strings.Contains(p.Cause, tt.want) {
				t.Fatalf("err = %#v, want InvalidJSON with %q", err, tt.want)
			}
		})
	}
}

func TestReadJSONTakesWhatIsWellFormed(t *testing.T) {
	atTheLimit := strings.Repeat("[", maxNesting) + strings.Repeat("]", maxNesting)
	for body, want := range map[string]string{"": "{}", " \n": "{}", `{"a":"[[[\"{"}`: `{"a":"[[[\"{"}`, atTheLimit: atTheLimit} {
		got, err := ReadJSON(httptest.NewRequest(http.MethodPut, "/", strings.NewReader(body)))
		if err != nil || string(got) != want {
			t.Errorf("ReadJSON(%.20q) = %.40q, %v", body, got, err)
		}
	}
}

func TestDecodeNamesTheFieldOfAWrongType(t *testing.T) {
	var v struct {
		Limits struct {
			Count int `json:"count"`
		} `json:"limits"`
	}
	err := Decode([]byte(`{"limits":{"count":"three"}}`), &v)
	p, ok := errors.AsType[*workspace.Problem](err)
	if !ok || p.Code != "InvalidValue" || p.Target != "limits.count" {
		t.Fatalf("err = %#v, want InvalidValue at limits.count", err)
	}
}

func FuzzReadJSON(f *testing.F) {
	for _, seed := range []string{`{}`, `[[[`, `{"a":{"b":[1,2,{"c":null}]}}`, "{\n\"x\" 1}", strings.Repeat(`{"a":`, 200), `"\ud800"`, `{"a":"\\"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ReadJSON(httptest.NewRequest(http.MethodPut, "/", strings.NewReader(string(b))))
		if err != nil {
			if _, ok := errors.AsType[*workspace.Problem](err); !ok {
				t.Fatalf("not a problem: %v", err)
			}
			return
		}
		if !json.Valid(got) {
			t.Fatalf("took %q, which is not JSON", got)
		}
		if _, deep := tooDeep(got); deep {
			t.Fatal("took a body that is too deep")
		}
	})
}
