package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// clusterRig is a Kubernetes of one node that is attached to the rig's server as compute "cluster".
type clusterRig struct {
	kubectl, kubeconfig, image string
}

// kubernetes starts the cluster when it is first needed.
func (r *rig) kubernetes(ctx context.Context) (*clusterRig, error) {
	if r.cluster != nil {
		return r.cluster, nil
	}
	said, err := r.start(ctx, "kubernetes", filepath.Join(r.dir, "kubernetes"))
	if err != nil {
		return nil, err
	}
	c := &clusterRig{kubectl: filepath.Join(said["PROGRAMS"], "kubectl"), kubeconfig: said["KUBECONFIG"], image: said["IMAGE"]}
	out, err := r.cli(ctx, "compute", "attach", "cluster", "--kind", "kubernetes", "--address", "kubeconfig://test", "--kubeconfig-file", c.kubeconfig, "--image", c.image)
	if err != nil {
		return nil, fmt.Errorf("attach: %w\n%s", err, out)
	}
	r.cluster = c
	return c, nil
}

// apply runs a command as a Job by kubectl and waits until it is complete.
func (c *clusterRig) apply(ctx context.Context, name, command string) error {
	text := fmt.Sprintf(`{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":%q},"spec":{"backoffLimit":0,"template":{"spec":{"restartPolicy":"Never",
		"containers":[{"name":"main","image":%q,"command":["/bin/sh","-c",%q]}]}}}}`, name, c.image, command)
	for _, args := range [][]string{{"apply", "-f", "-"}, {"wait", "--for=condition=complete", "--timeout=60s", "job/" + name}} {
		cmd := exec.CommandContext(ctx, c.kubectl, append([]string{"--kubeconfig", c.kubeconfig}, args...)...)
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("kubectl %s: %w: %s", args[0], err, out)
		}
	}
	return nil
}

// submitKubernetes compares a job in a pod with an equal Job by kubectl.
func submitKubernetes(ctx context.Context, r *rig, f *figure) error {
	c, err := r.kubernetes(ctx)
	if err != nil {
		return err
	}
	return f.ratio(10, "kubectl apply and wait of an equal Job", func() (time.Duration, error) {
		name := jobName()
		return timed(func() error {
			return errors.Join(r.server.submitTo(ctx, "cluster", name, dockerCommand), r.server.wait(ctx, name))
		})
	}, func() (time.Duration, error) {
		name := jobName()
		return timed(func() error { return c.apply(ctx, name, dockerCommand) })
	})
}

// editedKubernetes is editedDocker in pods.
func editedKubernetes(ctx context.Context, r *rig, f *figure) error {
	if _, err := r.kubernetes(ctx); err != nil {
		return err
	}
	return r.edited(ctx, f, "cluster", 5)
}
