"""A config file with many mistakes: all told at once, each by its path in the file."""

from __future__ import annotations

import pytest
import yaml

from eagleray.base.errors import ConfigError
from eagleray.spec.config import read_config

FILE = """
http_options: {port: many, ssl_keyfile: key.pem}
logging_config: {log_levle: DEBUG}
target_capacity: 120
applications:
- name: one
  import_path: hello
  deployments:
  - {name: A, num_replicas: 0}
  - {name: A, max_ongoing_requests: lots}
  - {name: B, ray_actor_options: {runtime_env: {conda: x}}}
- name: one
  import_path: hello:app
  port: 8001
  runtime_env: {pipp: [six]}
- name: "a#b"
  import_path: hello:app
  route_prefix: nowhere
- name: remote
  import_path: hello:app
  route_prefix: /remote
  runtime_env: {working_dir: "s3://bucket/code.zip"}
- name: lacks
  route_prefix: /lacks
"""

WORDS = [
    "http_options.port: must be a valid integer",
    "http_options: ssl_keyfile and ssl_certfile must be given together",
    "logging_config.log_levle: this key is unknown; did you mean 'log_level'?",
    "target_capacity: must be less than or equal to 100, got 120",
    "applications[0].import_path: must be of the form 'module:attribute'",
    "applications[0].deployments[0].num_replicas: ",
    "applications[0].deployments[1].max_ongoing_requests: must be a valid integer, got 'lots'",
    "applications[0].deployments[1].name: deployment name 'A' is used by applications[0].deployments[0].name already",
    "applications[0].deployments[2].ray_actor_options.runtime_env: runtime_env['conda'] is not supported",
    "applications[1].name: application name 'one' is used by applications[0].name already: it must be unique",
    "applications[1]: route prefix '/' is used by applications[0] already: it must be unique",
    "applications[1].port: an application has no port of its own: write it into http_options",
    "applications[1].runtime_env: runtime_env key 'pipp' is not known; did you mean 'pip'?",
    "applications[2].name: must not contain '#'",
    "applications[2].route_prefix: ",
    "applications[3].runtime_env.working_dir: runtime_env['working_dir'] 's3://bucket/code.zip' is on another machine",
    "applications[4].import_path: is required",
]


@pytest.mark.parametrize("words", WORDS)
def test_each_mistake_is_told_by_its_place(words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_config(yaml.safe_load(FILE), "config.yaml")
    text = str(raised.value)
    assert text.startswith("config.yaml is not valid:\n") and f"\n{words}" in text, text
