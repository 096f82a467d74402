package packaging_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/keywright/keywright/internal/server"
)

// container is what matters here of one in kubernetes.yaml.
type container struct {
	Lifecycle struct {
		PreStop struct {
			Sleep struct {
				Seconds int `yaml:"seconds"`
			} `yaml:"sleep"`
		} `yaml:"preStop"`
	} `yaml:"lifecycle"`
	ReadinessProbe *struct {
		TimeoutSeconds int `yaml:"timeoutSeconds"`
	} `yaml:"readinessProbe"`
}

// servers returns the container of the Deployment, and how many seconds its pods have to end.
func servers(t *testing.T) (c container, grace int) {
	t.Helper()
	dec := yaml.NewDecoder(strings.NewReader(string(read(t, "kubernetes.yaml"))))
	for {
		var object struct {
			Kind string `yaml:"kind"`
			Spec struct {
				Template struct {
					Spec struct {
						Grace      int         `yaml:"terminationGracePeriodSeconds"`
						Containers []container `yaml:"containers"`
					} `yaml:"spec"`
				} `yaml:"template"`
			} `yaml:"spec"`
		}
		if err := dec.Decode(&object); err != nil {
			t.Fatalf("no Deployment: %v", err)
		}
		if object.Kind == "Deployment" {
			pod := object.Spec.Template.Spec
			return pod.Containers[0], pod.Grace
		}
	}
}

// Probes wait for longer than a server thinks about its answer, and a proxy does not cut off what waits for the database.
func TestProbes(t *testing.T) {
	proxy := string(read(t, "haproxy.cfg"))
	check := regexp.MustCompile(`(?m)^\s+timeout check (\S+)`).FindStringSubmatch(proxy)
	if check == nil {
		t.Fatal("without timeout check HAProxy waits for no longer than inter")
	}
	if d, err := time.ParseDuration(check[1]); err != nil || d <= server.ProbePatience {
		t.Errorf("timeout check %s, %v", check[1], err)
	}
	if strings.Contains(proxy, "shutdown-sessions") {
		t.Error("sessions of a server that is taken out are cut off")
	}
	pod, _ := servers(t)
	if p := pod.ReadinessProbe; p == nil || time.Duration(p.TimeoutSeconds)*time.Second <= server.ProbePatience {
		t.Errorf("readinessProbe: %+v", p)
	}
}

// Whoever stops a server gives it the time that it takes at most.
func TestGracePeriods(t *testing.T) {
	most := server.Config{}.Filled().Drain + server.Closing
	pod, grace := servers(t)
	before := time.Duration(pod.Lifecycle.PreStop.Sleep.Seconds) * time.Second
	if got := time.Duration(grace) * time.Second; before == 0 || got < before+most {
		t.Errorf("kubernetes.yaml: %s after %s of waiting, want %s", got, before, before+most)
	}
	for file, setting := range map[string]string{"compose.yaml": `stop_grace_period: (\S+) # .*\bdrain\b`, "keywright.service": `(?m)^TimeoutStopSec=(\S+)`} {
		found := regexp.MustCompile(setting).FindSubmatch(read(t, file))
		if found == nil {
			t.Fatalf("%s: no %s", file, setting)
		}
		if got, err := time.ParseDuration(string(found[1])); err != nil || got < most {
			t.Errorf("%s: %s, %v; want %s", file, got, err, most)
		}
	}
}
