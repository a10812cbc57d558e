package cli

import (
	"encoding/json"
	"net/http"
)

// connectionRoutes keep logins without their passwords.
func (s *simulator) connectionRoutes(mux *http.ServeMux) {
	kept := map[string]any{}
	arm := simWorkspace + "/connections"
	mux.HandleFunc("PUT "+arm+"/{n}", func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		_ = json.NewDecoder(r.Body).Decode(&body)
		credentials, _ := body["properties"].(map[string]any)["credentials"].(map[string]any)
		delete(credentials, "password")
		body["name"] = r.PathValue("n")
		s.mu.Lock()
		defer s.mu.Unlock()
		kept[r.PathValue("n")] = body
		answerJSON(w, 200, body)
	})
	mux.HandleFunc("GET "+arm, func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		value := []any{}
		for _, name := range sorted(kept) {
			value = append(value, kept[name])
		}
		answerJSON(w, 200, map[string]any{"value": value})
	})
	mux.HandleFunc(arm+"/{n}", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		name := r.PathValue("n")
		if kept[name] == nil {
			fail(w, 404, "ResourceNotFound", `connection "`+name+`" was not found`, "", "list those there are: moorage connection list")
			return
		}
		if answerJSON(w, 200, kept[name]); r.Method == http.MethodDelete {
			delete(kept, name)
		}
	})
}
