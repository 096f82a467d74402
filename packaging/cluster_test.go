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
	ReadinessProbe *struct {
		TimeoutSeconds int `yaml:"timeoutSeconds"`
	} `yaml:"readinessProbe"`
}

// servers returns the container of the Deployment.
func servers(t *testing.T) container {
	t.Helper()
	dec := yaml.NewDecoder(strings.NewReader(string(read(t, "kubernetes.yaml"))))
	for {
		var object struct {
			Kind string `yaml:"kind"`
			Spec struct {
				Template struct {
					Spec struct {
						Containers []container `yaml:"containers"`
					} `yaml:"spec"`
				} `yaml:"template"`
			} `yaml:"spec"`
		}
		if err := dec.Decode(&object); err != nil {
			t.Fatalf("no Deployment: %v", err)
		}
		if object.Kind == "Deployment" {
			return object.Spec.Template.Spec.Containers[0]
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
	if p := servers(t).ReadinessProbe; p == nil || time.Duration(p.TimeoutSeconds)*time.Second <= server.ProbePatience {
		t.Errorf("readinessProbe: %+v", p)
	}
}
