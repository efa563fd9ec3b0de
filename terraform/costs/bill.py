"""The bill of an environment: each line idle, and working with trainings on spot and on demand."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from terraform.costs.configuration import Environment, Platform, Requests, UseCase
from terraform.costs.prices import Amounts, EnvironmentPattern, Pattern, Prices, UseCasePattern

_NODE_CLASS = "cpu_on_demand"
"""The price class of the nodes of control plane, endpoints and run workers."""
_SIZES = {"large": (2, 8), "xlarge": (4, 16), "2xlarge": (8, 32)}
"""Cores and GiB of the m families' sizes."""


@dataclass(frozen=True)
class Line:
    """What something costs a month, in USD; None: not priced."""

    what: str
    basis: str
    idle: float | None
    spot: float | None
    on_demand: float | None


@dataclass(frozen=True)
class Bill:
    """What an environment costs a month, and which share each use case has in it."""

    environment: Environment
    lines: Sequence[Line]
    use_cases: dict[str, Sequence[Line]]

    def total(self, column: str) -> float:
        """The sum of the lines that have a price; ``column`` is idle, spot or on_demand."""
        return sum(getattr(line, column) or 0 for line in self.lines)


def bill(environment: Environment, platform: Platform, prices: Prices, pattern: Pattern) -> Bill:
    """The environment's bill.

    Raises PermanentError for an instance type that has no price, KeyError for an environment or a
    use case that the working pattern does not have.
    """
    counter = _Counter(
        environment, platform, prices, pattern, pattern.environments[environment.name]
    )
    return Bill(
        environment,
        list(counter.lines()),
        {each.name: list(counter.use_case_lines(each)) for each in platform.use_cases},
    )


def node_seconds(platform: Platform, pattern: Pattern, capacity: str) -> float:
    """For how long a training's node is billed: until it is there, the training, until it goes."""
    return pattern.node_start_seconds + platform.expected_seconds + platform.idle_seconds[capacity]


def nodes_for(requests: Requests, instance: str, room: float) -> int:
    """How many nodes of the type the pods fill, of which they get the share ``room``."""
    cores, gib = _size(instance)
    return math.ceil(
        max(requests.cpu / (cores * room), requests.memory / (gib * 2**30 * room), 1e-9)
    )


def node_share(requests: Requests, instance: str, room: float) -> float:
    """The part of a node that the pods take, by what they take most of."""
    cores, gib = _size(instance)
    return max(requests.cpu / (cores * room), requests.memory / (gib * 2**30 * room))


def _size(instance: str) -> tuple[int, int]:
    family, _, size = instance.partition(".")
    if not family.startswith("m") or size not in _SIZES:
        raise ValueError(f"{instance}: the bill knows the sizes {', '.join(_SIZES)} of m families")
    return _SIZES[size]


@dataclass(frozen=True)
class _Counter:
    environment: Environment
    platform: Platform
    prices: Prices
    pattern: Pattern
    month: EnvironmentPattern

    def lines(self) -> Iterator[Line]:
        """The environment's lines, one a thing that AWS asks money for."""
        yield from self._network()
        yield from self._nodes()
        months = self.month.use_cases
        working = [(each, months[each.name]) for each in self.platform.use_cases]
        yield self._of_trainings(working)
        yield self._of_tunings(working)
        yield from self._stores()
        yield from self._watching()

    def use_case_lines(self, use_case: UseCase) -> Iterator[Line]:
        """What of the bill is the use case's; nodes that it shares by its part of them."""
        month = self.month.use_cases[use_case.name]
        node = self._hours(self.prices.instance_hour(self._node))
        share = node_share(use_case.server.times(use_case.servers), self._node, self.pattern.room)
        yield _steady(
            "endpoint",
            f"{use_case.servers} servers, {share:.1%} of a node",
            share * node,
        )
        yield self._of_trainings([(use_case, month)])
        yield self._of_tunings([(use_case, month)])
        workers = node_share(
            self.environment.run_worker.times(month.runs_at_once), self._node, self.pattern.room
        )
        runs = workers * node * month.run_hours_per_day / 24
        yield Line(
            "runs",
            f"{month.runs_at_once} at once, {month.run_hours_per_day:g} h a day, {workers:.1%} of "
            "a node",
            0,
            runs,
            runs,
        )
        yield self._storage([month])

    def _network(self) -> Iterator[Line]:
        here, service = self.environment, self.prices.service
        yield _steady("EKS control plane", "1 cluster", self._hours(service("cluster_hour")))
        gateways = here.nat_gateways
        yield _steady(
            "NAT gateways",
            f"{gateways}, each with an address",
            gateways * self._hours(service("nat_hour") + service("ipv4_hour")),
        )
        yield self._used("traffic through NAT", "GB", self.month.nat_gb, service("nat_gb"))
        yield _steady(
            "interface endpoints",
            f"{here.interface_endpoints} services in {here.zones} zones",
            here.interface_endpoints * here.zones * self._hours(service("endpoint_hour")),
        )
        # Without endpoints their traffic takes the way out.
        way = "endpoint_gb" if here.interface_endpoints else "nat_gb"
        yield self._used("traffic to AWS's services", "GB", self.month.endpoint_gb, service(way))

    def _nodes(self) -> Iterator[Line]:
        here, disk = self.environment, self.prices.service("disk_gb")
        hour = self.prices.instance_hour(here.system_instance)
        yield _steady(
            "system nodes",
            f"{here.system_nodes} of {here.system_instance}, disks of {here.system_disk_gib:g} GiB",
            here.system_nodes * (self._hours(hour) + here.system_disk_gib * disk),
        )
        pods = here.control_plane
        for use_case in self.platform.use_cases:
            pods += use_case.server.times(use_case.servers)
        busy, hours = pods, 0.0
        for month in self.month.use_cases.values():
            busy += here.run_worker.times(month.runs_at_once)
            hours = max(hours, month.run_hours_per_day)
        nodes = nodes_for(pods, self._node, self.pattern.room)
        more = (nodes_for(busy, self._node, self.pattern.room) - nodes) * hours / 24
        each = self._hours(self.prices.instance_hour(self._node)) + self._disk("cpu") * disk
        yield Line(
            "nodes of control plane, endpoints, runs",
            f"{nodes} of {self._node} for {pods.cpu:.2f} cores and {pods.memory / 2**30:.1f} GiB "
            "of requests" + (f"; runs add {more:.2g}" if more else ""),
            nodes * each,
            (nodes + more) * each,
            (nodes + more) * each,
        )

    def _of_trainings(self, trained: Sequence[tuple[UseCase, UseCasePattern]]) -> Line:
        days = self.prices.hours_per_month / 24
        spot, on_demand, count = 0.0, 0.0, 0.0
        for use_case, month in trained:
            count += month.trainings_per_day * days
            spot += month.trainings_per_day * days * self._training(use_case, spot=True)
            on_demand += month.trainings_per_day * days * self._training(use_case, spot=False)
        used = {use_case.training.price for use_case, _ in trained}
        types = ", ".join(sorted(self.platform.instances[name] for name in used))
        return Line(
            "trainings",
            f"{count:.0f} of {self.platform.expected_seconds:g} s on {types}",
            0,
            spot,
            on_demand,
        )

    def _of_tunings(self, tuned: Sequence[tuple[UseCase, UseCasePattern]]) -> Line:
        most = sum(month.tunings * use_case.tuning_budget for use_case, month in tuned)
        count = sum(month.tunings for _, month in tuned)
        return Line("tunings", f"{count:g}, each at its budget", 0, most, most)

    def _training(self, use_case: UseCase, *, spot: bool) -> float:
        """One training's node and its disk."""
        profile = use_case.training if spot else use_case.fallback
        hour = self.prices.instance_hour(self.platform.instances[profile.price])
        if spot and profile.capacity == "spot":
            hour *= 1 - self.platform.spot_discount
        disk = self._disk("gpu") * self.prices.service("disk_gb") / self.prices.hours_per_month
        seconds = node_seconds(self.platform, self.pattern, profile.capacity)
        return seconds / 3600 * (hour + disk)

    def _stores(self) -> Iterator[Line]:
        here, price = self.environment, self.prices.databases.get(self.environment.database_class)
        zones = "two zones" if here.database_multi_az else "one zone"
        factor = self.prices.multi_az.factor if here.database_multi_az else 1
        basis = f"{here.database_class} in {zones}"
        if price is None:
            yield Line("PostgreSQL", f"{basis}: not priced", None, None, None)
        else:
            yield _steady("PostgreSQL", basis, factor * self._hours(price.price))
        yield _steady(
            "PostgreSQL's disk",
            f"{here.database_gib:g} GiB in {zones}",
            factor * here.database_gib * self.prices.service("database_gb"),
        )
        yield self._storage(list(self.month.use_cases.values()))
        yield _steady(
            "images",
            f"{self.month.images_gb:g} GB in ECR",
            self.month.images_gb * self.prices.service("image_gb"),
        )

    def _storage(self, months: Sequence[UseCasePattern]) -> Line:
        service = self.prices.service
        kept = sum(month.lake_gb + month.artifacts_gb for month in months)
        writes = sum(month.storage_writes for month in months)
        reads = sum(month.storage_reads for month in months)
        asked = (writes * service("storage_writes") + reads * service("storage_reads")) / 1000
        idle = kept * service("storage_gb")
        return Line(
            "storage in S3",
            f"{kept:g} GB; {writes:,.0f} writes, {reads:,.0f} reads",
            idle,
            idle + asked,
            idle + asked,
        )

    def _watching(self) -> Iterator[Line]:
        here, service = self.environment, self.prices.service
        months = here.log_days * 24 / self.prices.hours_per_month
        log = service("log_gb") + months * service("log_stored_gb")
        yield self._used("logs", f"GB, kept {here.log_days:g} days", self.month.log_gb, log)
        yield self._used(
            "audit trail", "data events", self.month.audit_events, service("audit_events") / 100_000
        )
        yield _steady("KMS keys", f"{here.keys}", here.keys * service("key"))
        yield _steady("secrets", f"{here.secrets}", here.secrets * service("secret"))
        yield _steady("alarms", f"{here.alarms}", here.alarms * service("alarm"))

    def _used(self, what: str, unit: str, amounts: Amounts, price: float) -> Line:
        return Line(
            what,
            f"{amounts.idle:,.0f} to {amounts.working:,.0f} {unit}",
            amounts.idle * price,
            amounts.working * price,
            amounts.working * price,
        )

    @property
    def _node(self) -> str:
        return self.platform.instances[_NODE_CLASS]

    def _disk(self, node_class: str) -> float:
        return self.platform.disk_gib[node_class]

    def _hours(self, price: float) -> float:
        return price * self.prices.hours_per_month


def _steady(what: str, basis: str, monthly: float) -> Line:
    return Line(what, basis, monthly, monthly, monthly)
