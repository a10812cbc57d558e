# `make help` lists what there is. Everything that is built or fetched lands in bin/, dist/ or the cache folder.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export MOORAGE_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/moorage-test
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GO_BUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false
STRIP := -s -w -buildid=

# Facts of protocols beside the checkout, if they are there: some tests compare with them.
ifneq ($(wildcard ../shared),)
export MOORAGE_SHARED ?= $(abspath ../shared)
endif

# The keeper is not stamped with the version, so that its hash changes only when its code does.
KEEPERS := $(foreach a,amd64 arm64,internal/keeper/dist/keeper-linux-$(a).zst)
KEEPER_SOURCES := $(shell find cmd/keeper internal/keeper internal/snapshot internal/workspace internal/clock -name '*.go' ! -name '*_test.go' ! -path '*/dist/*') go.mod go.sum

.PHONY: help build demo test soak bench lint fuzz dev dist image clean keepers setup

help: ## List the targets.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

build: keepers ## Build bin/moorage, with the keepers for linux amd64 and arm64 in it.
	@mkdir -p bin
	$(GO_BUILD) -ldflags '$(STRIP) -X main.version=$(VERSION)' -o bin/moorage ./cmd/moorage

keepers: $(KEEPERS)

internal/keeper/dist/keeper-linux-%.zst: $(KEEPER_SOURCES)
	@mkdir -p bin
	GOOS=linux GOARCH=$* $(GO_BUILD) -ldflags '$(STRIP)' -o bin/keeper-linux-$* ./cmd/keeper
	go run ./internal/release compress bin/keeper-linux-$* $@

demo: build ## Start a server, train the example and stay until Ctrl-C. ONCE=1: end after the job.
	bin/moorage demo $(if $(ONCE),--once)

setup: ## Install what the tests need: Debian packages (as root), the Python clients.
	test/setup

test: setup build ## Run all tests. TESTFLAGS='-run X' narrows them, PKG=./internal/... too.
	@files=$$(gofmt -l $(wildcard cmd internal test bench)); [ -z "$$files" ] || { echo "not formatted, run gofmt -w: $$files" >&2; exit 1; }
	go vet ./...
	@. test/environment && go run ./test/summary -p 2 -timeout 60m $(if $(CI),-count=1) $(TESTFLAGS) $(or $(PKG),./...)

soak: build ## Kill the server 1,000 times, on both databases and over SSH, and look for lost and doubled jobs.
	@. test/environment && MOORAGE_KILLS=$(or $(KILLS),1000) go test -v -count=1 -timeout 120m -run 'EndsExactlyOnce|ChangesNothingWhenItWakes' ./test/e2e

bench: build ## Measure, each figure beside its floor.
	@. test/environment && go run ./bench $(BENCHFLAGS)

lint: ## Run golangci-lint, pinned in tools/go.mod.
	@mkdir -p $(MOORAGE_CACHE)/bin
	GOBIN=$(MOORAGE_CACHE)/bin go -C tools install tool
	$(MOORAGE_CACHE)/bin/golangci-lint run ./...

FUZZTIME ?= 20s
fuzz: ## Run every fuzz target for FUZZTIME (20s).
	@grep -rn --include='*_test.go' '^func Fuzz' . | sed 's|^\(.*\)/[^/]*_test.go:[0-9]*:func \(Fuzz[A-Za-z0-9_]*\).*|\1 \2|' | while read -r dir name; do \
		echo "== $$dir $$name"; go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$dir" </dev/null; done

dev: ## Build and restart a server in .dev/ on every change.
	@tools/dev

IMAGE ?= moorage:$(VERSION)
image: keepers ## Pack bin/image.tar, a container image named IMAGE (moorage:VERSION) for this machine's architecture, without a daemon.
	@mkdir -p bin/image
	GOOS=linux $(GO_BUILD) -ldflags '$(STRIP) -X main.version=$(VERSION)' -o bin/image/moorage ./cmd/moorage
	go run ./internal/release image bin/image.tar $(IMAGE) $(shell go env GOARCH) bin/image/moorage
	@rm -r bin/image

PLATFORMS := linux-amd64 linux-arm64 darwin-amd64 darwin-arm64
dist: keepers ## Make release archives and images in dist/, the same bytes for the same commit and Go version.
	@rm -rf dist && mkdir -p dist
	@for p in $(PLATFORMS); do \
		echo "moorage $(VERSION) $$p"; \
		GOOS=$${p%-*} GOARCH=$${p#*-} $(GO_BUILD) -ldflags '$(STRIP) -X main.version=$(VERSION)' -o dist/$$p/moorage ./cmd/moorage; \
		go run ./internal/release archive dist/moorage-$(VERSION)-$$p.tar.gz moorage-$(VERSION) dist/$$p/moorage LICENSE README.md; \
		case $$p in linux-*) go run ./internal/release image dist/moorage-$(VERSION)-$$p.image.tar moorage:$(VERSION) $${p#*-} dist/$$p/moorage;; esac; \
		rm -r dist/$$p; \
	done
	@cd dist && go run ../internal/release sums *.tar.gz *.image.tar > sha256sums && cat sha256sums

clean: ## Remove what was built here.
	rm -rf bin dist internal/keeper/dist/*.zst
