package contract

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

func TestContractIsStrict(t *testing.T) {
	c, err := Load(filepath.Join(Folder(t), "batch", "resource-manager", "Microsoft.Batch", "stable", "2024-02-01", "BatchManagement.json"))
	if err != nil {
		t.Fatal(err)
	}
	const path = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Batch/batchAccounts/account"
	for name, tc := range map[string]struct{ method, url, answer, want string }{
		"right":            {"GET", path + "?api-version=2024-02-01", `{"name":"account","properties":{"provisioningState":"Succeeded"}}`, ""},
		"no version":       {"GET", path, `{}`, "api-version"},
		"another method":   {"TRACE", path + "?api-version=2024-02-01", `{}`, "no such operation"},
		"another path":     {"GET", path + "/nothing?api-version=2024-02-01", `{}`, "no such operation"},
		"unknown property": {"GET", path + "?api-version=2024-02-01", `{"properties":{"accountEndPoint":"x"}}`, "accountEndPoint"},
		"unknown word":     {"GET", path + "?api-version=2024-02-01", `{"properties":{"provisioningState":"succeeded"}}`, "provisioningState"},
		"wrong type":       {"GET", path + "?api-version=2024-02-01", `{"properties":{"poolQuota":"many"}}`, "poolQuota"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.Check(Exchange{
				Request: httptest.NewRequestWithContext(t.Context(), tc.method, "https://management.azure.com"+tc.url, nil),
				Status:  200, Header: http.Header{"Content-Type": {"application/json"}}, Answer: []byte(tc.answer),
			})
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if tc.want == "no such operation" && !errors.Is(err, ErrNoOperation) {
				t.Errorf("%v is not ErrNoOperation", err)
			}
		})
	}
}
