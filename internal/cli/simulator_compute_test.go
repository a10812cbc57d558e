package cli

import (
	"encoding/json"
	"net/http"
	"strings"
)

// A real host key's form, for fingerprints.
const simHostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHRoZSBzaW11bGF0b3IncyBwdWJsaWMga2V5ISEhISE="

func (s *simulator) computeRoutes(mux *http.ServeMux) {
	arm := simWorkspace + "/computes"
	facts := map[string]any{
		"identity": []string{"machine", "key"}, "details": map[string]string{"os": "linux", "arch": "amd64", "cpus": "8", "host_key": simHostKey, "shell": "/bin/sh"},
		"problems": []any{map[string]any{"code": "NoPython", "message": "python3 was not found", "mend": "install it if jobs need it", "warning": true}},
	}
	mux.HandleFunc("PUT "+arm+"/{n}", func(w http.ResponseWriter, r *http.Request) {
		body := map[string]any{}
		_ = json.NewDecoder(r.Body).Decode(&body)
		text, _ := json.Marshal(body)
		s.mu.Lock()
		defer s.mu.Unlock()
		for name, other := range s.computes {
			if theirs, _ := json.Marshal(other); strings.Contains(string(text), "twin") && strings.Contains(string(theirs), "twin") && name != r.PathValue("n") {
				fail(w, 409, "AlreadyAttached", `this target is already attached to the workspace as compute "`+name+`"`, "it has the same address", "use it, or detach it before you attach again: moorage compute detach "+name)
				return
			}
		}
		s.computes[r.PathValue("n")] = body
		w.Header().Set("Azure-AsyncOperation", s.URL+"/operations/"+r.PathValue("n"))
		answerJSON(w, 201, s.compute(r.PathValue("n")))
	})
	mux.HandleFunc("PATCH "+arm+"/{n}", func(w http.ResponseWriter, r *http.Request) {
		answerJSON(w, 200, s.compute(r.PathValue("n")))
	})
	mux.HandleFunc("GET /operations/{n}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("n") == "nologin" {
			answerJSON(w, 200, map[string]any{"status": "Failed", "error": map[string]any{
				"code": "LoginRefused", "message": `10.0.0.5 refused the login "bob": no key fits. Add the public key to ~/.ssh/authorized_keys there`,
				"cause": "no key fits", "mend": "add the public key to ~/.ssh/authorized_keys there",
			}})
			return
		}
		answerJSON(w, 200, map[string]any{"status": "Succeeded"})
	})
	mux.HandleFunc("GET "+arm, func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		value := []any{}
		for _, name := range sorted(s.computes) {
			value = append(value, s.compute(name))
		}
		answerJSON(w, 200, map[string]any{"value": value})
	})
	mux.HandleFunc("GET "+arm+"/{n}", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.computes[r.PathValue("n")] == nil {
			fail(w, 404, "ComputeNotFound", `compute "`+r.PathValue("n")+`" was not found`, "", "see the names: moorage compute list")
			return
		}
		answerJSON(w, 200, s.compute(r.PathValue("n")))
	})
	mux.HandleFunc("DELETE "+arm+"/{n}", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.computes, r.PathValue("n"))
		answerJSON(w, 200, map[string]any{"left": []string{"~/.moorage on 10.0.0.5"}})
	})
	mux.HandleFunc("POST "+s.base+"/computes/check", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, 200, facts) })
	mux.HandleFunc("POST "+s.base+"/computes/{n}/check", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("n") == "full" {
			answerJSON(w, 200, map[string]any{"problems": []any{map[string]any{"code": "DiskFull", "message": "the disk is full", "mend": "free 1 GB"}}})
			return
		}
		answerJSON(w, 200, facts)
	})
	mux.HandleFunc("GET "+s.base+"/computes/{n}/environments", func(w http.ResponseWriter, r *http.Request) {
		list := []any{}
		if r.PathValue("n") == "gpu" {
			list = []any{
				map[string]any{"hash": strings.Repeat("ab", 32), "phase": "failed", "last_used": "2026-11-24T09:00:00Z", "problem": map[string]any{"code": "EnvironmentFailed", "message": "it cannot be made", "cause": "no\nsuch package"}},
				map[string]any{"hash": strings.Repeat("cd", 32), "phase": "ready", "last_used": "2026-11-24T08:00:00Z", "problem": nil, "spec": map[string]any{
					"conda_file": "dependencies:\n  - python=3.12\n", "pip": []string{"numpy"}, "newer": "kept",
				}},
			}
		}
		answerJSON(w, 200, map[string]any{"environments": list})
	})
	mux.HandleFunc("GET /native/v1/kinds", func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, 200, map[string]any{"kinds": []any{
			map[string]any{"kind": "local", "schema": map[string]any{"properties": map[string]any{"slots": map[string]any{}}}, "limits": map[string]any{"Experimental": false}},
			map[string]any{"kind": "ssh", "schema": map[string]any{"properties": map[string]any{"address": map[string]any{}, "password": map[string]any{"writeOnly": true}}}, "limits": map[string]any{"NoGPUs": true}},
		}})
	})
	mux.HandleFunc("/native/v1/resources", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		id := r.URL.Query().Get("id")
		switch r.Method {
		case http.MethodPut:
			var body map[string]any
			_ = json.NewDecoder(r.Body).Decode(&body)
			if settings, _ := body["settings"].(map[string]any); settings["password"] != nil {
				delete(settings, "password")
				body["secret"] = true
			}
			s.catalog[id] = body
			answerJSON(w, 200, body)
		case http.MethodDelete:
			delete(s.catalog, id)
			w.WriteHeader(http.StatusNoContent)
		default:
			list := []any{}
			for _, id := range sorted(s.catalog) {
				list = append(list, s.catalog[id])
			}
			answerJSON(w, 200, map[string]any{"resources": list})
		}
	})
}

// compute is a compute as the server shows it: without secrets, with what it found. The caller holds mu.
func (s *simulator) compute(name string) map[string]any {
	body := s.computes[name]
	outer, _ := body["properties"].(map[string]any)
	inner, _ := outer["properties"].(map[string]any)
	settings, _ := inner["settings"].(map[string]any)
	address := settings["address"]
	if address == nil {
		address = inner["address"]
	}
	return map[string]any{"name": name, "properties": map[string]any{
		"computeType": outer["computeType"], "provisioningState": "Succeeded", "resourceId": outer["resourceId"],
		"properties": map[string]any{
			"address": address, "kind": "ssh", "health": "healthy", "slots": 2,
			"details":  map[string]string{"host_key": simHostKey, "os": "linux", "cpus": "8"},
			"problems": []any{map[string]any{"code": "ClockSkew", "message": "the clock is 3 s ahead", "mend": "run a time service", "warning": true}},
		},
	}}
}
