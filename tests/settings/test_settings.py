"""The configuration file: what it fills in, and what it says when it is wrong."""

from datetime import timedelta

import pytest

from modelops.settings import Settings, SettingsError, load

LEAST = "prometheus: {url: http://prometheus:9090}\nimages: {operator: modelops:1}\n"


def read(tmp_path, text, **environ) -> Settings:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return load(path, environ)


def test_prometheus_and_the_own_image_are_all_that_must_be_given(tmp_path):
    settings = read(tmp_path, LEAST)
    assert (settings.lease.duration, settings.lease.renew, settings.lease.retry) == (
        timedelta(seconds=15),
        timedelta(seconds=10),
        timedelta(seconds=2),
    )
    assert (settings.writes.per_second, settings.writes.burst, settings.writes.in_flight) == (50, 100, 12)
    assert (settings.workers, settings.resync) == (8, timedelta(minutes=10))
    assert (settings.metrics_port, settings.probes_port) == (8080, 8081)
    assert settings.watch_namespaces == ()


def test_every_block_is_read(tmp_path):
    settings = read(
        tmp_path,
        LEAST
        + """
watchNamespaces: [team-a]
lease: {duration: 30s, renew: 20s, retry: 3s}
gateway: {name: public, namespace: edge, sectionName: https, domain: models.example.com}
sources: {allowedHosts: [hub.example.com]}
environments: {prod: {approvals: 2, separationOfDuties: true, formats: [safetensors]}}
delivery: {enabled: false, store: /data/store}
gate: {stamping: false, hmacKeyFile: /run/key}
imagePullPolicy: Never
""",
    )
    assert settings.lease.duration == timedelta(seconds=30)
    assert settings.gateway.section_name == "https"
    assert settings.environments["prod"].approvals == 2
    assert settings.environments["prod"].separation_of_duties is True
    assert settings.delivery.store == "/data/store"
    assert settings.gate.hmac_key_file == "/run/key"


def test_only_the_pod_knows_its_name_and_namespace(tmp_path):
    settings = read(tmp_path, LEAST + "namespace: other\n", POD_NAME="modelops-0", POD_NAMESPACE="ops")
    assert (settings.identity, settings.namespace) == ("modelops-0", "ops")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param(
            "images: {operator: x}\n", "prometheus needs a value, found none; set it", id="a block is missing"
        ),
        pytest.param(
            "prometheus: {}\nimages: {operator: x}\n",
            "prometheus.url needs a value, found none; set it",
            id="a field is missing",
        ),
        pytest.param(
            LEAST + "lease: {durations: 3s}\n",
            "lease.durations is no setting that exists; correct its name or remove it",
            id="a name is misspelt",
        ),
        pytest.param(
            LEAST + "resync: soon\n",
            "resync needs a duration such as 30s, 2m, 1h30m or 90d, found 'soon'; correct it",
            id="a duration is none",
        ),
        pytest.param(
            LEAST + "resync: 600\n",
            "resync needs a valid timedelta, found 600; correct it",
            id="a duration without its unit",
        ),
        pytest.param(
            LEAST + "lease: {duration: 10s}\n",
            "lease needs duration longer than renew, and renew longer than 1.2 times retry, "
            "found {'duration': '10s'}; correct it",
            id="a lease that two replicas could hold",
        ),
        pytest.param(
            LEAST + "environments: {prod: {approvals: many}}\n",
            "environments.prod.approvals needs a valid integer, unable to parse string as an integer, "
            "found 'many'; correct it",
            id="deep inside",
        ),
        pytest.param(
            LEAST + "workers: 0\nburst: 1\n",
            "workers needs greater than or equal to 1, found 0; correct it (and 1 more)",
            id="two mistakes",
        ),
        pytest.param("[]", "needs a YAML mapping, found list; start with prometheus.url", id="a list"),
        pytest.param("a: [", "correct the file", id="no YAML"),
    ],
)
def test_a_wrong_file_is_told_in_one_sentence(tmp_path, text, sentence):
    with pytest.raises(SettingsError) as refused:
        read(tmp_path, text)
    told = str(refused.value)
    assert told.startswith(f"{tmp_path}/config.yaml: ")
    assert sentence in told
    assert "\n" not in told


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingsError, match="needs a readable file"):
        load(tmp_path / "absent.yaml", {})
