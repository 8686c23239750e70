"""The worker's settings: environment variables and the file of profiles, with a bound and a unit each.

All problems are reported at once, and the value of a secret is never shown.

Not here: the settings that clients share (`celery_runpod/_connect.py`), what each setting does to Celery
(``celery_config.py``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    AliasGenerator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from celery_runpod._connect import (
    DEFAULT_NAMESPACE,
    DEFAULT_REDIS_URL,
    check_namespace,
    check_webhook_secret,
    has_sound_port,
)
from celery_runpod._protocol import Queues
from celery_runpod._redis_urls import has_replicas, is_redis_url, named, problem_of_url
from celery_runpod.api._access import DEFAULT_BASE_URL, KEY_ADVICE, clear_text_problem
from celery_runpod.errors import ConfigurationError, InvalidInput, InvalidOption
from config.profiles import Profile, load_profiles

KEY_PREFIX = "RUNPOD_API_KEY_"
ENDPOINT_PREFIX = "RUNPOD_ENDPOINT_"
KEY_NAMES_SUFFIX = "_API_KEY_NAMES"
"""`RUNPOD_ENDPOINT_<NAME>_API_KEY_NAMES` lists the key names that calls of the endpoint may choose."""

_SHORT_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")
"""A key name that an error may show. A longer text may be a key that was given in place of its name."""


def _state_dir() -> Path | None:
    """Where programs of this user keep their state; None if the user has no such place."""
    base = os.environ.get("XDG_STATE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".local" / "state") / "celery-runpod"
    except RuntimeError:
        return None


def _named(variable: str, default: Any = None) -> Any:
    """A setting whose variable is not `RUNPOD_` and the field's name."""
    return Field(default, validation_alias=AliasChoices(*variable.split()))


class Settings(BaseSettings):
    """Read from the environment; docs/settings.md is made from this class. Times are seconds.

    The variable of a setting is `RUNPOD_` and the field's name in capitals, unless `_named` gives another.
    """

    model_config = SettingsConfigDict(
        hide_input_in_errors=True,
        extra="ignore",
        env_ignore_empty=True,
        alias_generator=AliasGenerator(validation_alias=lambda name: f"RUNPOD_{name.upper()}"),
    )

    redis_url: SecretStr = _named("REDIS_URL", SecretStr(DEFAULT_REDIS_URL))
    """Broker, result backend and job store, unless they are named below. Behind Sentinel
    `redis+sentinel://host:26379,host:26379/0?master_name=mymaster` ([how to](how-to-redis-cluster-and-sentinel.md))."""
    broker_url_given: SecretStr | None = _named("RUNPOD_BROKER_URL CELERY_BROKER_URL")
    """The broker: Redis, or RabbitMQ (`amqp://`). Without it `REDIS_URL`."""
    result_backend_given: SecretStr | None = _named("RUNPOD_RESULT_BACKEND")
    """The result backend: Redis, the same as your app's. Without it `REDIS_URL`."""
    store_url_given: SecretStr | None = _named("RUNPOD_STORE_URL")
    """The job store: Redis with AOF on and `maxmemory-policy noeviction`; it may be a cluster,
    `redis+cluster://host:6379,host:6379`. Without it `REDIS_URL`."""
    sentinel_master_name: str | None = None
    """The master that Sentinels are asked for, where a URL names none."""
    store_replicas: int | None = Field(None, ge=0, le=5)
    """How many replicas must have the intent of a submit before it is sent to RunPod. Without it 1 on a cluster and
    behind Sentinel, else 0: they are not asked."""
    store_replicas_wait_s: float = Field(1.0, gt=0, le=4)
    """How long a submit waits for these replicas, before it is put off."""
    namespace: str = DEFAULT_NAMESPACE
    """The first queue's name, and the prefix of the other queues, keys and locks."""

    api_key: SecretStr | None = None
    """RunPod's API key."""
    api_key_file: Path | None = None
    """A file with RunPod's API key; it is read again on each use."""
    base_url: str = _named("RUNPOD_BASE_URL RUNPOD_ENDPOINT_BASE_URL", DEFAULT_BASE_URL)
    """RunPod's API, or a simulator."""
    rest_url: str | None = None
    """RunPod's management API (pods, endpoints), or a simulator. Without it RunPod's own."""
    allow_http: bool = False
    """URLs may be `http://` to a public host. Loopback, private addresses and names without a dot always may."""
    rest_version: Literal["v2", "v1"] = "v2"
    """The version of the management API; the simulator has `v2` alone."""
    on_unauthorized: Literal["fail", "wait"] = "fail"
    """What to do with jobs while RunPod refuses the key: end them, or let them wait."""
    management: bool = False
    """The worker serves `runpod.pods.*`, `runpod.endpoints.*` and `runpod.gpus`: whoever can write to the broker can
    rent GPUs then."""
    management_key_names: Annotated[tuple[str, ...], NoDecode] = _named("RUNPOD_MANAGEMENT_API_KEY_NAMES", ())
    """The key names that these tasks may choose, with commas between."""

    webhook_url: str | None = None
    """Where RunPod reaches the webhook view."""
    webhook_secret: SecretStr | None = None
    """Signs the webhook URLs; at least 16 characters. The view's process needs it too."""
    webhook_secret_previous: SecretStr | None = None
    """The secret before the last change, which the view still accepts."""

    unconfirmed_submit: Literal["fail", "resubmit"] = "fail"
    """A submit without an answer: `fail` never submits twice, `resubmit` at least once."""
    unconfirmed_window_s: float = Field(60.0, gt=0, le=7200)
    """How long an unanswered submit may still be confirmed."""
    unconfirmed_window_webhook_s: float = Field(900.0, gt=0, le=86_400)
    """The same, where webhooks may confirm it."""

    config_file: Path | None = _named("RUNPOD_CONFIG")
    """A TOML file of profiles, see below."""
    imports: Annotated[tuple[str, ...], NoDecode] = ()
    """Modules whose tasks (queue `default`) the RunPod worker runs too, with commas between. On Redis each is ended 5 s
    before `RUNPOD_VISIBILITY_TIMEOUT_S`, for which the worker needs the pool prefork."""
    result_expires_s: float = Field(86_400.0, gt=0, le=30 * 86_400)
    """How long results are kept; the same as your app's `result_expires`."""
    keep_failed_s: float = Field(86_400.0, ge=0, le=30 * 86_400)
    """How long a failed job can be run again by `retry`; 0: not at all. A profile may say otherwise."""
    most_retries_by_hand: int = Field(3, ge=0, le=1000)
    """How often a job, and what it is run again as, is run again by `retry` without force."""
    most_open_jobs: int = Field(200_000, ge=1, le=100_000_000)
    """With this many open jobs calls raise `TooManyOpenJobs`."""
    most_in_flight: int = Field(1000, ge=0, le=1_000_000)
    """How many jobs of an endpoint are at RunPod; the others wait here, where cancel and priority cost nothing. 0: any
    number. A profile's `max_in_flight` goes first."""
    most_input_bytes: int = Field(2_000_000_000, ge=1_000_000, le=10**13)
    """With this many bytes of inputs of open jobs calls raise `TooManyOpenJobs`."""
    idempotency_ttl_s: float | None = Field(None, gt=0, le=30 * 86_400)
    """How long an `idempotency_key` is kept after its job's end. Without it as long as results."""

    connect_timeout_s: float = Field(5.0, gt=0, le=30)
    """How long a connection to RunPod may take."""
    submit_timeout_s: float = Field(20.0, gt=0, le=60)
    """How long a submit may take."""
    poll_timeout_s: float = Field(10.0, gt=0, le=60)
    """How long a look may take."""
    sync_wait_s: float = Field(20.0, ge=1, le=20)
    """How long `/runsync` is held."""
    check_total_s: float = Field(25.0, gt=0, le=120)
    """How long a check works. Less than the next."""
    check_lease_s: float = Field(40.0, gt=0, le=300)
    """How long a check holds its jobs. Less than the next but one."""
    check_batch: int = Field(200, ge=1, le=1000)
    """How many jobs a check takes."""
    max_checks: int = Field(4, ge=1, le=32)
    """How many checks of an endpoint run at once."""
    countdown_cap_s: float = Field(45.0, gt=0, le=3600)
    """The longest countdown of a check."""
    # Over 21 s, Celery's own claim on a chord: a repeat of `finish` that meets the claim of a dead one loses the chord.
    claim_lease_s: float = Field(60.0, gt=21, le=600)
    """How long one delivery is held before another may try."""
    visibility_timeout_s: float = Field(90.0, ge=10, le=43_200)
    """How long Redis waits before it gives the message of a killed worker to another."""
    not_found_grace_s: float = Field(30.0, gt=0, le=3600)
    """A 404 so soon after the submit is not believed; a later one only when it comes again, 5 s later."""
    selfheal_interval_s: float = Field(2.0, gt=0, le=60)
    """How often lost checks are looked for."""
    http_threads: int = Field(128, ge=1, le=512)
    """How many calls to RunPod a process makes at once; at most 32 of them are submits."""
    state_dir: Path | None = Field(default_factory=_state_dir)
    """Where a worker keeps a small file, by which it notices a Redis that was restored from an old snapshot."""
    log_json: bool = False
    """Write log lines as JSON."""

    _env: Mapping[str, str] = PrivateAttr(default_factory=lambda: os.environ)
    """The environment, for variables that hold a name: `RUNPOD_API_KEY_<NAME>`, `RUNPOD_ENDPOINT_<NAME>`."""

    @field_validator("imports", "management_key_names", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return _names(value) if isinstance(value, str) else value

    @field_validator("webhook_secret", "webhook_secret_previous")
    @classmethod
    def _long_enough(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None:
            try:
                check_webhook_secret(str(info.field_name), value.get_secret_value())
            except ConfigurationError as error:
                raise ValueError(str(error).partition(" ")[2]) from None
        return value

    @field_validator("namespace")
    @classmethod
    def _namespace(cls, value: str) -> str:
        try:
            return check_namespace(value)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None

    @field_validator("result_backend_given", "store_url_given", "redis_url")
    @classmethod
    def _redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not is_redis_url(value.get_secret_value()):
            raise ValueError(
                "must be a redis://, rediss://, unix://, redis+sentinel:// or, of the job store, redis+cluster:// URL: "
                "results and the job store are kept in Redis"
            )
        if value is not None and not has_sound_port(value.get_secret_value()):
            raise ValueError(
                "cannot be read: percent-encode a password's special characters, and give the port as a number"
            )
        return value

    @field_validator("rest_version", mode="before")
    @classmethod
    def _version(cls, value: Any) -> Any:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("base_url", "rest_url", "webhook_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with https:// (or http:// for a simulator)")
        return value.rstrip("/") if value else value

    @model_validator(mode="after")
    def _order(self) -> Settings:
        """Check the order of timeouts that keeps a job from being paid for twice."""
        problems = []
        for role, url in (
            ("broker", self.broker_url),
            ("result backend", self.result_backend),
            ("store", self.store_url),
        ):
            if problem := problem_of_url(url, of_celery=role != "store"):
                problems.append(f"the URL of the {role} {problem}")
        if not self.longest_post_s < min(self.unconfirmed_window_s, self.unconfirmed_window_webhook_s):
            problems.append(f"the unconfirmed window must be longer than the longest POST ({self.longest_post_s:g} s)")
        if not self.submit_timeout_s < self.check_total_s < self.check_lease_s < self.visibility_timeout_s:
            problems.append(
                "required: RUNPOD_SUBMIT_TIMEOUT_S < RUNPOD_CHECK_TOTAL_S < RUNPOD_CHECK_LEASE_S "
                "< RUNPOD_VISIBILITY_TIMEOUT_S"
            )
        if not self.poll_timeout_s < self.check_total_s:
            problems.append("RUNPOD_POLL_TIMEOUT_S must be less than RUNPOD_CHECK_TOTAL_S, or no look would begin")
        if not self.countdown_cap_s + self.check_total_s < self.visibility_timeout_s:
            problems.append(
                "RUNPOD_COUNTDOWN_CAP_S + RUNPOD_CHECK_TOTAL_S must be less than RUNPOD_VISIBILITY_TIMEOUT_S"
            )
        if self.webhook_url and not self.webhook_secret:
            problems.append("RUNPOD_WEBHOOK_URL is set but RUNPOD_WEBHOOK_SECRET is not: webhooks could be forged")
        for name in ("base_url", "rest_url", "webhook_url"):
            url = getattr(self, name)
            if url and (problem := clear_text_problem(url, self.allow_http)):
                problems.append(f"RUNPOD_{name.upper()} {problem}")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def broker_url(self) -> str:
        return self._url(self.broker_url_given)

    @property
    def result_backend(self) -> str:
        return self._url(self.result_backend_given)

    @property
    def store_url(self) -> str:
        return self._url(self.store_url_given)

    def _url(self, given: SecretStr | None) -> str:
        return named((given or self.redis_url).get_secret_value(), self.sentinel_master_name)

    @property
    def replicas_wanted(self) -> int:
        """How many replicas must have an intent before its POST; 0: none is asked."""
        return int(has_replicas(self.store_url)) if self.store_replicas is None else self.store_replicas

    @property
    def queues(self) -> Queues:
        return Queues.of(self.namespace)

    @cached_property
    def profiles(self) -> dict[str, Profile]:
        return load_profiles(self.config_file) if self.config_file else {}

    @property
    def longest_post_s(self) -> float:
        """After this time a submit has an answer, or will never have one."""
        return max(self.submit_timeout_s, self.sync_wait_s + 10)

    @property
    def may_resubmit(self) -> bool:
        """Whether a submit without an answer is made again."""
        return self.unconfirmed_submit == "resubmit"

    def window_s(self, webhook: bool) -> float:
        """How long an unanswered submit may still be confirmed."""
        return self.unconfirmed_window_webhook_s if webhook else self.unconfirmed_window_s

    def max_in_flight(self, endpoint: str) -> int | None:
        """How many jobs of an endpoint (RunPod's id) may be at RunPod at once, under all its names: the least limit of
        its profiles, else that of all endpoints; None: any number."""
        limits = [profile.max_in_flight for profile in self.profiles.values() if profile.id == endpoint]
        return min((limit for limit in limits if limit is not None), default=self.most_in_flight or None)

    def keep_failed(self, name: str) -> float:
        """How many seconds a failed job of this endpoint may be run again by hand. Any name is allowed: a call that is
        refused because of its name is delivered too."""
        profile = self.profiles.get(name)
        own = None if profile is None else profile.keep_failed_s
        return self.keep_failed_s if own is None else own

    def key(self, name: str | None = None) -> str:
        """The API key of this name. A file is read each time, so that a key can be rotated.

        Raises:
            ConfigurationError: there is no such key. The text never holds its value.
        """
        if name:
            variable = f"{KEY_PREFIX}{_variable(name)}"
            if variable in VARIABLES or variable.endswith("_FILE"):
                raise ConfigurationError(f"no API key can be called {name!r}: {variable} names a file")
            given, file = self._env.get(variable), self._env.get(f"{variable}_FILE")
        else:
            variable = "RUNPOD_API_KEY"
            given = self.api_key.get_secret_value() if self.api_key else None
            file = str(self.api_key_file) if self.api_key_file else None
        if given:
            return given.strip()
        if file:
            try:
                return Path(file).read_text("utf-8").strip()
            except OSError as error:
                problem = f"{variable}_FILE: {file} cannot be read: {error.strerror}"
            except UnicodeDecodeError:
                problem = f"{variable}_FILE: {file} cannot be read: it is not UTF-8"
            raise ConfigurationError(problem)
        raise ConfigurationError(f"no RunPod API key: set {variable} or {variable}_FILE in the worker's environment")

    def refuse_without_key(self) -> None:
        """Refuse to start without any API key: the worker would end each call with an error.

        Raises:
            ConfigurationError: neither RUNPOD_API_KEY nor a key with a name can be read now.
        """
        variables = [name for name in self._env if name.startswith(KEY_PREFIX) and name not in VARIABLES]
        named = {name.removeprefix(KEY_PREFIX).removesuffix("_FILE") for name in variables}
        problem = ""
        for name in (None, *sorted(named)):
            try:
                if self.key(name):
                    return
                why = f"the API key{f' {name!r}' if name else ''} is empty"
            except ConfigurationError as error:
                why = str(error)
            problem = problem or why
        raise ConfigurationError(
            f"{problem}; {KEY_ADVICE}. Without a key a worker does not start: it would end each call with an error"
        )

    def resolve(self, name: str) -> tuple[str, Profile]:
        """RunPod's endpoint id and the profile for a name: a profile, `RUNPOD_ENDPOINT_<NAME>`, else RunPod's id.

        Raises:
            InvalidInput: the name's variable is another setting, as `RUNPOD_ENDPOINT_BASE_URL`.
        """
        profile = self.profiles.get(name)
        if profile is not None:
            return profile.id, profile
        variable = f"{ENDPOINT_PREFIX}{_variable(name)}"
        if not is_endpoint_variable(variable):
            raise InvalidInput(f"no endpoint can be called {name!r}: {variable} is another setting")
        return self._env.get(variable) or name, Profile(id=name)

    def check_key_name(self, endpoint: str, name: str, given: str | None) -> None:
        """Check that calls of this endpoint may choose this API key.

        Args:
            endpoint: RunPod's endpoint id.
            name: the endpoint as the caller names it.
            given: the name of a key; None is the worker's `RUNPOD_API_KEY`, which every call may use.

        Raises:
            InvalidOption: no profile or variable of this endpoint lists the name.
        """
        if given is not None and given not in (allowed := self._key_names(endpoint)):
            lists = f"api_key_names of its profile, or {ENDPOINT_PREFIX}<NAME>{KEY_NAMES_SUFFIX}, lists them"
            raise InvalidOption(
                "api_key_name", _shown_name(given), f"for endpoint {name}: {_listed(allowed)} ({lists})"
            )

    def check_management(self, given: str | None) -> None:
        """Check that a management task may run with the API key of this name.

        Raises:
            ConfigurationError: the workers serve no management task.
            InvalidOption: `RUNPOD_MANAGEMENT_API_KEY_NAMES` does not list the name.
        """
        if not self.management:
            raise ConfigurationError(
                "the RunPod workers serve no management tasks: set RUNPOD_MANAGEMENT=on in their environment"
            )
        if given is not None and given not in self.management_key_names:
            allowed = f"{_listed(self.management_key_names)} (RUNPOD_MANAGEMENT_API_KEY_NAMES lists them)"
            raise InvalidOption("api_key_name", _shown_name(given), allowed)

    def _key_names(self, endpoint: str) -> set[str]:
        """The key names that calls of an endpoint may choose, by RunPod's id."""
        found: set[str] = set()
        for profile in self.profiles.values():
            if profile.id == endpoint:
                found |= profile.api_key_names | {profile.options.api_key_name or ""}
        for variable, value in self._env.items():
            if is_endpoint_variable(variable) and value == endpoint:
                found |= set(_names(self._env.get(f"{variable}{KEY_NAMES_SUFFIX}") or ""))
        return found - {""}


VARIABLES = {
    str(variable): name
    for name, one in Settings.model_fields.items()
    for variable in getattr(one.validation_alias, "choices", None) or [one.validation_alias]
}
"""Environment variable -> its setting. None of them names a key or an endpoint."""


def is_endpoint_variable(variable: str) -> bool:
    """Whether a variable is `RUNPOD_ENDPOINT_<NAME>`, which holds RunPod's id of an endpoint."""
    return (
        variable.startswith(ENDPOINT_PREFIX)
        and variable != ENDPOINT_PREFIX
        and variable not in VARIABLES
        and not variable.endswith(KEY_NAMES_SUFFIX)
    )


def load_settings(env: Mapping[str, str] | None = None) -> Settings:
    """All settings from the environment.

    Raises:
        ConfigurationError: lists every wrong setting, without the value of a secret.
    """
    try:
        settings = Settings(**dict(env)) if env is not None else Settings()  # type: ignore[call-arg, arg-type]
        if env is not None:
            settings._env = dict(env)
        settings.profiles  # noqa: B018 - a wrong profile must stop the start
        return settings
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_input=False)
        ]
    except ConfigurationError as error:
        problems = [str(error)]
    raise ConfigurationError("wrong settings:\n  " + "\n  ".join(problems))


@lru_cache(maxsize=1024)
def _variable(name: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in name).upper()


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _shown_name(given: str) -> str:
    return given if _SHORT_NAME.fullmatch(given) else f"a text of {len(given)} characters"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "no name"
