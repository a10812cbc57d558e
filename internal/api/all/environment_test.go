package all

import (
	"net/http"
	"strings"
	"testing"
)

const environmentsV1 = "/environment/v1.0" + wsPath + "/environments"

// registration is what azureml-core sends, in its mixed case.
func registration(pack string) map[string]any {
	return map[string]any{
		"Name": "env", "EnvironmentVariables": map[string]string{"A": "b"}, "InferencingStackVersion": nil, "r": nil,
		"python": map[string]any{"userManagedDependencies": false, "interpreterPath": "python", "condaDependencies": map[string]any{
			"channels": []string{"anaconda"}, "dependencies": []any{"python=3.10.18", map[string]any{"pip": []string{"azureml-defaults"}}, pack},
		}},
		"Docker": map[string]any{"enabled": false, "baseImage": "mcr.example/base:1", "baseDockerfile": nil},
		"Spark":  map[string]any{"repositories": []string{}, "packages": []string{}, "precachePackages": true},
	}
}

func TestV1RegistersAndReadsEnvironments(t *testing.T) {
	s := newServer(t)
	first := s.call("PUT", environmentsV1+"/env", registration("numpy")).want(200)
	first.has(map[string]any{
		"name": "env", "version": "1", "environmentVariables.A": "b", "docker.baseImage": "mcr.example/base:1", "spark.precachePackages": true,
		"python.condaDependencies.dependencies.2": "numpy", "python.interpreterPath": "python",
	})
	for _, field := range []string{`"inferencingStackVersion":null`, `"r":null`} { // the client looks for them
		if !strings.Contains(first.Body.String(), field) {
			t.Errorf("%s is missing in %s", field, first.Body)
		}
	}
	s.call("PUT", environmentsV1+"/env", registration("numpy")).want(200).has(map[string]any{"version": "1"})
	s.call("PUT", environmentsV1+"/env", registration("scipy")).want(200).has(map[string]any{"version": "2"})
	s.call("PUT", environmentsV1+"/env/versions/1", registration("numpy")).want(200).has(map[string]any{"version": "1"})
	s.call("PUT", environmentsV1+"/env/versions/1", registration("torch")).want(409).has(map[string]any{"error.code": "VersionExists"})
	s.call("GET", environmentsV1+"/env", nil).want(200).has(map[string]any{"version": "2"})
	s.call("GET", environmentsV1+"/env/versions/1", nil).want(200).has(map[string]any{"version": "1"})
	s.call("GET", strings.Replace(environmentsV1, "resourceGroups", "resourcegroups", 1)+"/", nil).want(200).has(map[string]any{
		"value.0.name": "env", "value.0.version": "2", "value.1.name": "AzureML-sklearn-1.5", "continuationToken": nil,
	})
	s.call("GET", wsPath+"/environments/env/versions/1", nil).want(200).has(map[string]any{"properties.image": "mcr.example/base:1", "moorageDefinition": nil})
	s.call("GET", environmentsV1+"/env/versions/1/image", nil).want(200).has(map[string]any{
		"imageExistsInRegistry": false, "dockerImage.name": "mcr.example/base:1", "dockerImage.registry.address": nil, "pythonEnvironment.interpreterPath": "python",
	})
	s.call("PUT", environmentsV1+"/env/versions/1/metadata", map[string]any{"Labels": []string{"prod"}}).want(200)
	s.call("GET", environmentsV1+"/env/labels/prod", nil).want(200).has(map[string]any{"version": "1"})
}

func TestV1IsToldWhyAnEnvironmentCannotBeHad(t *testing.T) {
	s := newServer(t)
	for name, c := range map[string]struct {
		method, path string
		body         any
		status       int
		code, say    string
	}{
		"absent":         {"GET", "/none", nil, 404, "ResourceNotFound", `\"none\"`},
		"absent version": {"GET", "/none/versions/7", nil, 404, "ResourceNotFound", "none:7"},
		"absent label":   {"GET", "/none/labels/x", nil, 404, "ResourceNotFound", "none@x"},
		"absent image":   {"GET", "/none/image", nil, 404, "ResourceNotFound", "none"},
		"curated":        {"GET", "/AzureML-sklern-1.5", nil, 404, "UnknownCuratedEnvironment", "sklearn-1.5"},
		"reserved":       {"PUT", "/AzureML-mine", registration("numpy"), 400, "ReservedName", "env.clone"},
		"bad name":       {"PUT", "/a%20b", registration("numpy"), 400, "InvalidName", "a b"},
		"bad package":    {"PUT", "/env", registration("numpy; rm -rf /"), 400, "InvalidEnvironment", "numpy; rm"},
		"no content":     {"PUT", "/env", map[string]any{"Name": "env"}, 400, "InvalidEnvironment", "nothing but its name"},
		"no object":      {"PUT", "/env", `[]`, 400, "", ""},
		"recipe":         {"POST", "/env/versions/1/recipe", map[string]any{}, 501, "NoRecipe", "save_to_directory"},
	} {
		a := s.call(c.method, environmentsV1+c.path, c.body)
		if a.Code != c.status || !strings.Contains(a.Body.String(), c.code) || !strings.Contains(a.Body.String(), c.say) || !strings.Contains(a.Body.String(), `"details":[]`) {
			t.Errorf("%s: %d %s", name, a.Code, a.Body)
		}
	}
	s.call("GET", strings.Replace(environmentsV1, "/main/", "/other/", 1), nil).want(404)
}

func TestBuildWithoutAComputeSaysThatNoImageIsMade(t *testing.T) {
	s := newServer(t)
	s.call("PUT", environmentsV1+"/env", registration("numpy")).want(200)
	second := strings.Replace(environmentsV1, "v1.0", "v2.0", 1)
	a := s.call("POST", second+"/env/versions/1/image", map[string]any{}).want(http.StatusAccepted)
	b := s.call("GET", s.path(a.get("location")), nil).want(200).has(map[string]any{"status": "Succeeded"})
	log := s.call("GET", s.path(b.get("logUrl")), nil, as("")).want(200) // the client sends no token for it
	if !strings.Contains(log.Body.String(), "No image is built") || !strings.Contains(log.Body.String(), "image_build_compute") {
		t.Errorf("the log says %q", log.Body)
	}
	s.call("GET", strings.TrimSuffix(s.path(b.get("logUrl")), "A")+"B", nil, as("")).want(401)

	on := s.call("POST", second+"/env/versions/1/imageoncompute/local", map[string]any{}).want(http.StatusAccepted)
	c := s.call("GET", s.path(on.get("location")), nil).want(200).has(map[string]any{"status": "Queued"})
	s.call("GET", s.path(c.get("logUrl")), nil, as("")).want(200)
	s.call("POST", second+"/env/versions/1/imageoncompute/none", map[string]any{}).want(400)
	s.call("POST", second+"/none/versions/1/image", map[string]any{}).want(404)
}
