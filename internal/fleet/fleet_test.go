package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/fake"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a fleet over one fake machine, whose settings can be changed.
type fixture struct {
	*Fleet
	world   *fake.World
	machine *fake.Machine
	version atomic.Value
	closed  atomic.Int32 // targets closed
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{world: fake.New(compute.Limits{})}
	f.machine = f.world.Machine("m")
	f.version.Store("1")
	f.Fleet = New(Config{
		Drivers: []compute.Driver{counting{f.world.Driver(), &f.closed}}, Server: "s", Log: slog.New(slog.DiscardHandler), Clock: clock.System(),
		Settings: func(context.Context, string) (Settings, error) {
			return Settings{Kind: "fake", JSON: json.RawMessage(`{"machine":"m"}`), Version: f.version.Load().(string)}, nil
		},
	})
	t.Cleanup(func() { f.Close(); f.world.Close() })
	return f
}

// counting counts the targets that are closed.
type counting struct {
	compute.Driver
	closed *atomic.Int32
}

func (c counting) Open(ctx context.Context, settings json.RawMessage, env compute.Env) (compute.Target, error) {
	t, err := c.Driver.Open(ctx, settings, env)
	if err != nil {
		return nil, err
	}
	return &countingTarget{Target: t, closed: c.closed}, nil
}

type countingTarget struct {
	compute.Target
	closed *atomic.Int32
}

func (c *countingTarget) Close() error {
	c.closed.Add(1)
	return c.Target.Close()
}

func (f *fixture) use(t *testing.T) (compute.Target, func()) {
	t.Helper()
	target, release, err := f.Use(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	return target, release
}

func TestManyWhoAskAtOnceShareOneTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.machine.Slow(time.Second)
		var wg sync.WaitGroup
		targets := make([]compute.Target, 20)
		for i := range targets {
			wg.Go(func() {
				target, release := f.use(t)
				defer release()
				targets[i] = target
			})
		}
		wg.Wait()
		for _, target := range targets {
			if target != targets[0] {
				t.Fatal("two targets were given")
			}
		}
		if n := f.world.Opened(); n != 1 {
			t.Errorf("opened %d times", n)
		}
	})
}

func TestFailureIsSharedAndDoesNotStick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.machine.Slow(time.Second)
		f.machine.Fail(fake.Open, fake.Denied())
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, _, err := f.Use(t.Context(), "c"); !errors.Is(err, compute.ErrDenied) {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		if n := f.machine.Calls(fake.Open); n != 1 {
			t.Errorf("a dead machine was tried %d times", n)
		}
		_, release := f.use(t)
		release()
	})
}

func TestWhoGivesUpDoesNotSpoilTheOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.machine.Slow(time.Second)
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, _, err := f.Use(impatient, "c"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the impatient got %v", err)
			}
		})
		wg.Go(func() { _, release := f.use(t); release() })
		wg.Wait()
		if n := f.world.Opened(); n != 1 {
			t.Errorf("opened %d times", n)
		}
	})
}

func TestIdleTargetIsClosedAndOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		_, first := f.use(t)
		_, second := f.use(t)
		first()
		time.Sleep(time.Hour) //nolint:forbidigo // in a bubble: time itself is the condition
		if f.closed.Load() != 0 {
			t.Fatal("a target in use was closed")
		}
		second()
		time.Sleep(9 * time.Minute) //nolint:forbidigo // as above
		_, release := f.use(t)
		release()
		time.Sleep(9 * time.Minute) //nolint:forbidigo // as above
		if f.closed.Load() != 0 {
			t.Fatal("use did not prolong its life")
		}
		time.Sleep(2 * time.Minute) //nolint:forbidigo // as above
		synctest.Wait()
		if f.closed.Load() != 1 {
			t.Fatal("an idle target stays open")
		}
		_, release = f.use(t)
		release()
		if n := f.world.Opened(); n != 2 {
			t.Errorf("opened %d times", n)
		}
	})
}

func TestForgottenTargetServesItsUsersToTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		old, release := f.use(t)
		f.Forget("c")
		select {
		case <-Outdated(old):
		default:
			t.Error("its user is not told")
		}
		if _, err := old.Status(t.Context(), nil); err != nil {
			t.Errorf("the user's target is gone: %v", err)
		}
		fresh, releaseFresh := f.use(t)
		if fresh == old {
			t.Error("the forgotten target was given again")
		}
		release()
		release() // twice is once
		synctest.Wait()
		if f.closed.Load() != 1 {
			t.Error("the last user has left, and it stays open")
		}
		if _, err := fresh.Status(t.Context(), nil); err != nil {
			t.Errorf("the new target: %v", err)
		}
		releaseFresh()
	})
}

func TestRefreshReopensOnlyOtherSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		target, release := f.use(t)
		release()
		f.Refresh("c", "1")
		same, release := f.use(t)
		release()
		if same != target {
			t.Error("the same settings were opened again")
		}
		f.version.Store("2")
		f.Refresh("c", "2")
		other, release := f.use(t)
		release()
		if other == target {
			t.Error("new settings were not opened")
		}
		f.Refresh("unknown", "1")
	})
}

func TestSettingsChangedWhileOpeningAreOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.machine.Slow(time.Second)
		var wg sync.WaitGroup
		wg.Go(func() { _, release := f.use(t); release() })
		synctest.Wait()
		f.version.Store("2")
		f.Refresh("c", "2")
		_, release := f.use(t)
		release()
		wg.Wait()
		synctest.Wait()
		if n := f.world.Opened(); n != 2 || f.closed.Load() != 1 {
			t.Errorf("opened %d, closed %d", n, f.closed.Load())
		}
	})
}

func TestCloseDropsWhatIsUsedAndWhatWasForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		_, releaseOld := f.use(t)
		f.Forget("c")
		_, releaseNew := f.use(t)
		f.Close()
		f.Close()
		if n := f.closed.Load(); n != 2 {
			t.Errorf("%d of 2 targets closed", n)
		}
		if _, _, err := f.Use(t.Context(), "c"); !errors.Is(err, compute.ErrUnreachable) {
			t.Errorf("use after close: %v", err)
		}
		releaseOld()
		releaseNew()
	})
}

func TestUnknownKindNamesTheWayOut(t *testing.T) {
	f := newFixture(t)
	_, err := f.Try(t.Context(), "c", "marble", nil)
	p, ok := errors.AsType[*workspace.Problem](err)
	if !ok || p.Code != "UnsupportedKind" || p.Mend == "" {
		t.Errorf("got %v", err)
	}
}

func TestAbilityLooksThroughTheFleetsWrapping(t *testing.T) {
	world := fake.New(compute.Limits{})
	defer world.Close()
	f := New(Config{
		Drivers: []compute.Driver{world.Driver()}, Log: slog.New(slog.DiscardHandler),
		Settings: func(context.Context, string) (Settings, error) {
			return Settings{Kind: "fake", JSON: json.RawMessage(`{"machine":"m"}`)}, nil
		},
	})
	defer f.Close()
	target, release, err := f.Use(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, ok := Ability[compute.Watcher](target); !ok {
		t.Error("the fake watches, and the fleet hides it")
	}
	if _, ok := Ability[compute.Dialer](target); ok {
		t.Error("the fake dials nothing")
	}
}
