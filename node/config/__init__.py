"""Configuration: parsed once into frozen structs, passed down, never read again."""

from prsm.node.config.checks import is_loopback, validate
from prsm.node.config.load import Loaded, Origin, describe, load, to_toml
from prsm.node.config.schema import (
    Config,
    ConfigError,
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

__all__ = [
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
    "parse_size",
    "to_toml",
    "validate",
]
