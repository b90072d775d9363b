"""Configuration: parsed once into frozen structs, passed down, never read again."""

from prsm.node.config.checks import is_loopback, validate
from prsm.node.config.load import (
    KEYS,
    RETIRED,
    Loaded,
    Origin,
    describe,
    load,
    nearest_key,
    read_text,
    to_toml,
)
from prsm.node.config.schema import (
    Config,
    ConsensusConfig,
    ExecutorConfig,
    JobsConfig,
    KeysConfig,
    LogConfig,
    NetConfig,
    NodeConfig,
    RpcConfig,
    StorageConfig,
    WorkerConfig,
    parse_size,
)
from prsm.node.config.section import ConfigError

__all__ = [
    "KEYS",
    "RETIRED",
    "Config",
    "ConfigError",
    "ConsensusConfig",
    "ExecutorConfig",
    "JobsConfig",
    "KeysConfig",
    "Loaded",
    "LogConfig",
    "NetConfig",
    "NodeConfig",
    "Origin",
    "RpcConfig",
    "StorageConfig",
    "WorkerConfig",
    "describe",
    "is_loopback",
    "load",
    "nearest_key",
    "parse_size",
    "read_text",
    "to_toml",
    "validate",
]
