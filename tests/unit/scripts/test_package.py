"""What is shipped: the lock to run with, the bill of materials, containers, the unit."""

import importlib
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from prsm.node.config.load import load
from prsm.testnet import launch

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "scripts" / "deploy"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.syspath_prepend(str(DEPLOY))
    yield
    for name in ("environment", "four", "package", "sbom"):
        sys.modules.pop(name, None)


@pytest.fixture
def sbom(scripts: None) -> ModuleType:  # noqa: ARG001 - the path
    return importlib.import_module("sbom")


@pytest.fixture
def package(scripts: None) -> ModuleType:  # noqa: ARG001 - the path
    return importlib.import_module("package")


def test_the_lock_to_run_with_is_the_lock_without_tools(sbom: ModuleType) -> None:
    """Each pin and hash is the one of the lock that everything is tested with."""
    whole = sbom.pins((ROOT / "requirements.lock").read_text())
    text = (DEPLOY / "requirements-run.lock").read_text()
    assert text == sbom.lock_to_run(), "python3 scripts/sbom.py --lock > the file"
    small = sbom.pins(text)
    assert all(whole[name] == pin for name, pin in small.items())
    assert all(hashes for _, hashes in small.values())
    assert {"libp2p", "onnxruntime", "trio", "prometheus-client", "hypercorn"} <= small.keys()
    assert not {"pytest", "mypy", "atheris", "playwright", "bandit"} & small.keys()


@pytest.mark.slow
def test_bill_of_materials_names_licences_and_hashes(sbom: ModuleType) -> None:
    bill = json.loads(sbom.bill_of_materials())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert bill["serialNumber"].startswith("urn:uuid:")
    refs = {part["bom-ref"] for part in bill["components"]}
    assert len(refs) == len(bill["components"])
    for part in bill["components"]:
        assert part["purl"] == f"pkg:pypi/{part['name']}@{part['version']}"
        assert part["externalReferences"][0]["hashes"]
        assert part.get("licenses"), f"{part['name']} says no licence"
    top = bill["metadata"]["component"]["bom-ref"]
    for row in bill["dependencies"]:
        assert row["ref"] in refs | {top}
        assert set(row["dependsOn"]) <= refs
    assert sbom.bill_of_materials() == sbom.bill_of_materials()


def test_a_wheel_with_foreign_files_is_refused(package: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "prsm_node-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("prsm/node/version.py", '_EXPORTED: Final = "$Format:%h$"')
        wheel.writestr("tests/test_x.py", "")
        wheel.writestr("prsm_node-0.1.0.dist-info/METADATA", "")
    faults = package.faults_of_wheel(path)
    assert "tests/test_x.py is beside the package" in faults
    assert "prsm/py.typed is missing" in faults
    assert any("was not filled in" in fault for fault in faults)


@pytest.mark.long
def test_a_commit_gives_the_same_bytes_twice(package: ModuleType, tmp_path: Path) -> None:
    """Wheel and sdist of HEAD, built in two folders; the program knows its commit."""
    built = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        built.append(package.build("HEAD", tmp_path / name))
    assert [one.sha256 for one in built[0]] == [two.sha256 for two in built[1]]
    wheel, source = sorted(built[0], key=lambda one: one.path.suffix != ".whl")
    assert package.faults_of_wheel(wheel.path) == []
    assert package.faults_of_sdist(source.path) == []


# -- containers


def yaml_of(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def test_the_container_has_no_root_and_says_how_it_is() -> None:
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    last = lines[max(at for at, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert "USER 10001:10001" in last
    assert any(line.startswith("HEALTHCHECK ") for line in last)
    assert 'ENTRYPOINT ["python", "-m", "prsm.node"]' in last
    assert not any("root" in line for line in last if line.startswith("USER"))
    installs = [line for line in lines if "pip install" in line and "*.whl" not in line]
    assert all("--require-hashes" in line for line in installs)
    copied = [
        line.split()[1:-1] for line in lines if line.startswith("COPY ") and "from" not in line
    ]
    for path in (name for names in copied for name in names if "*" not in name):
        assert (ROOT / path).is_file(), path


def test_four_nodes_of_the_compose_file_are_four_homes() -> None:
    (compose,) = yaml_of("compose.yaml")
    nodes = {name: one for name, one in compose["services"].items() if name != "keys"}
    assert list(nodes) == ["node1", "node2", "node3", "node4"]
    for number, (name, one) in enumerate(nodes.items(), start=1):
        assert one["environment"] == {"PRSM_HOME": f"/var/lib/prsm/{name}"}
        assert one["networks"]["net"]["ipv4_address"] == f"172.30.57.1{number}"
        assert one["read_only"]
        assert one["cap_drop"] == ["ALL"]
        assert one["depends_on"] == {"keys": {"condition": "service_completed_successfully"}}
    assert compose["services"]["keys"]["network_mode"] == "none"


@pytest.mark.slow
def test_configurations_of_the_four_nodes_find_one_another(scripts: None, tmp_path: Path) -> None:  # noqa: ARG001 - the path
    four = importlib.import_module("four")
    assert four.make(tmp_path / "net")
    assert not four.make(tmp_path / "net"), "a second start keeps the keys"
    heads = set()
    for number in range(1, four.COUNT + 1):
        home = tmp_path / "net" / f"node{number}"
        config = load(home / "config.toml").config
        assert config.net.listen == ("/ip4/0.0.0.0/tcp/4410",)
        assert (config.rpc.host, config.rpc.port) == ("127.0.0.1", 8480)
        places = [address.split("/p2p/")[0] for address in config.net.bootstrap]
        assert all(place.startswith("/ip4/172.30.57.1") for place in places)
        assert f"/ip4/172.30.57.1{number}/tcp/4410" not in places
        heads.add((home / "genesis.json").read_bytes())
    assert len(heads) == 1
    assert launch.__doc__


def test_the_pod_has_no_root_and_the_probes_of_the_pages() -> None:
    service, stateful = yaml_of("k8s/prsm.yaml")
    assert (service["kind"], stateful["kind"]) == ("Service", "StatefulSet")
    pod = stateful["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    (node,) = pod["containers"]
    (first,) = pod["initContainers"]
    assert "--password-fd 3 3< /etc/prsm-password/password" in first["args"][0]
    for one in (node, *pod["initContainers"]):
        assert one["securityContext"]["readOnlyRootFilesystem"]
        assert not one["securityContext"]["allowPrivilegeEscalation"]
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "/readyz" in str(node["readinessProbe"])
    assert "/livez" in str(node["livenessProbe"])
    mounted = {mount["name"] for mount in node["volumeMounts"]}
    claims = {one["metadata"]["name"] for one in stateful["spec"]["volumeClaimTemplates"]}
    assert mounted == claims | {one["name"] for one in pod["volumes"]}
    assert stateful["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]


def test_the_unit_waits_for_ready_and_watches_the_loop() -> None:
    rows = [
        line.partition("=")[::2]
        for line in (DEPLOY / "prsm.service").read_text().splitlines()
        if "=" in line and not line.startswith("#")
    ]
    unit = dict(rows)
    assert unit["Type"] == "notify"
    assert int(unit["WatchdogSec"]) >= 30
    assert unit["DynamicUser"] == "yes"
    assert unit["StateDirectory"] == "prsm"
    assert unit["ExecStart"].endswith("-m prsm.node --home /var/lib/prsm")
    assert unit["NoNewPrivileges"] == "yes"
    assert "MemoryDenyWriteExecute" not in unit, "onnxruntime makes code"
    calls = " ".join(value for name, value in rows if name == "SystemCallFilter")
    assert {"seccomp", "landlock_restrict_self"} <= set(calls.split())
