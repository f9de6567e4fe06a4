"""The places in the code that may write, found in its syntax trees, so that none can be forgotten. Not a test.

Found are the calls that change something outside the process by their name: of the libraries that write (whatever
they offer that is not known to read), of methods named like those that write, and of our own functions that contain
such a call. What is found by its name only must show at work that it writes, or be listed in `EXEMPT` with a reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "refold"

BESIDE = {
    "cli": "calls the rest, and keeps nothing itself",
    "dagster": "calls the rest, and keeps nothing itself but what Dagster keeps",
    "diff": "computes in memory and in temporary folders, and must leave all stores alone",
    "leases/database_register.py": "a statement that commits by itself; tests/leases stops processes around it",
    "plan": "foretells a rebuild, and keeps what came of it in the cache folder of the user",
    "sinks/cache.py": "writes to a server; tests/sinks/test_cache_killed.py kills at every request",
    "sinks/cache_server.py": "the same",
    "seal/repartition.py": "writes where nothing reads yet; tests/seal/test_repartition.py stops it at every write",
    "storage/durable.py": "writes one file and gives it its name, which is watched as one write",
    "storage/packs.py": "writes remote stores; tests/storage/test_packs.py kills and loses every write",
    "storage/wrappers.py": "passes on what it is asked to write",
    "testing": "is for tests",
}
"""What is not looked at, and why."""

READING = {
    "deltalake": {"CommitProperties", "DeltaTable", "Schema.from_arrow", "Schema.from_json"},
    "deltalake.transaction": {"AddAction", "RemoveAction"},
    "obstore": {"get", "get_ranges", "head", "list", "list_with_delimiter"},
    "obstore.store": {"LocalStore", "MemoryStore", "from_url"},
    "os": {
        *("access", "cpu_count", "environ.get", "fsdecode", "fsencode", "fstat", "getpid", "getuid", "path.lexists"),
        *("pipe", "statvfs", "sched_getaffinity", "sysconf", "walk"),
    },
    "shutil": set[str](),
    "sqlite3": set[str](),
    "tantivy": {
        "Document",
        "Index.open",
        "Query.all_query",
        "Query.boolean_query",
        "Query.const_score_query",
        "Query.term_query",
        "SchemaBuilder",
        "SchemaBuilder.is_valid_field_name",
    },
    "tempfile": set[str](),
}
"""Libraries that write, and what of them only reads, or makes a value. Whatever else is called of them writes."""

STATEMENTS = {
    "begin",
    "begin_nested",
    "exec_driver_sql",
    "execute",
    "executemany",
    "executescript",
    "scalar",
    "scalars",
}
"""Names of methods that send a statement to a database, or open a transaction."""

WRITING = STATEMENTS | {
    # paths and files
    *("chmod", "hardlink_to", "link_to", "mkdir", "rename", "rmdir", "symlink_to", "touch", "truncate", "unlink"),
    *("write", "write_bytes", "write_text", "writelines", "create_whole", "replace_whole"),
    # databases
    *("commit", "copy_expert", "copy_from", "create_all", "drop_all"),
    # object stores and Delta tables
    *("cleanup_metadata", "compact", "create", "create_checkpoint", "create_write_transaction", "delete"),
    *("delete_all", "merge"),
    *("open_writer", "optimize", "put", "put_async", "put_if", "put_mapped", "put_soon", "repair", "restore"),
    *("try_create", "try_swap", "vacuum", "z_order"),
    # search indexes
    *("add_document", "add_json", "delete_all_documents", "delete_documents", "garbage_collect_files"),
    *("wait_merging_threads", "writer"),
}
"""Names of methods that write, whatever they are called on."""

_BY_THE_NEXT = "makes what a killed process had decided; the next run does it after every kill"

EXEMPT = {
    ("refold/leases/fenced_store.py", "FencedStore.create", "self._inner.create"): "passes on what is no commit",
    ("refold/leases/leases.py", "unique_holder", "os.urandom"): "a name",
    ("refold/leases/leases.py", "Leases.__init__", "unique_holder"): "a name",
    ("refold/leases/leases.py", "Leases.holding", "self._one"): "a context, entered by the stack",
    ("refold/leases/leases.py", "Lease.commit", "self._settle"): _BY_THE_NEXT,
    ("refold/leases/leases.py", "Lease.release", "self._settle"): _BY_THE_NEXT,
    ("refold/leases/leases.py", "Lease._settle", "settle"): _BY_THE_NEXT,
    ("refold/leases/leases.py", "settle", "objects.create"): _BY_THE_NEXT,
    ("refold/leases/leases.py", "Leases.acquire", "settle"): _BY_THE_NEXT,
    ("refold/leases/leases.py", "Leases.break_lease", "settle"): _BY_THE_NEXT,
    ("refold/leases/register.py", "ObjectRegister.swap", "self._objects.delete"): "of numbers that nobody reads",
    ("refold/sinks/database_fenced.py", "FencedDatabase._require_newest", "connection.exec_driver_sql"): "a setting",
    ("refold/base/memory.py", "return_freed_memory", "os.environ.keys"): "reads",
    ("refold/engine.py", "Engine.__init__", "return_freed_memory"): "tells the C library when to free memory",
    ("refold/incremental/history.py", "RelationHistory._begin_inputs", "each.begin"): "a run in memory",
    ("refold/sinks/database_postgres.py", "_watch", "os.dup"): "cuts the connection of a server that answers nobody",
    ("refold/stores/kinds/plain.py", "PlainVersions._resolved", "self._merge.begin"): "a row in memory",
    ("refold/repair/power_cut.py", "drop_empty_ends", "objects.delete"): "of what has no content, after a power cut",
    ("refold/repair/power_cut.py", "seal_again", "objects.create"): "puts back what was dropped, after a power cut",
    ("refold/repair/power_cut.py", "_seal", "objects.delete"): "gives up what was just sealed, after a power cut",
    ("refold/sinks/delta_log.py", "DeltaLog.drop_empty", "self._objects.delete"): "of what a power cut left, there",
    ("refold/sinks/delta.py", "DeltaTarget.release", "self.release_if"): "killed where releases call it",
    ("refold/sinks/ndjson.py", "BulkNdjsonTarget.release", "self.release_if"): "killed where releases call it",
    ("refold/sinks/tantivy.py", "TantivyTarget.release", "self.release_if"): "killed where releases call it",
    ("refold/sinks/delta.py", "DeltaTarget._commit", "transactions_of"): "describes a commit",
    ("refold/sinks/delta_log.py", "transactions_of", "Transaction"): "describes a commit",
    ("refold/sinks/sql_faults.py", "security_faults", "connection.scalars"): "queries of PostgreSQL's catalogue",
    ("refold/storage/file_lock.py", "_opened", "os.open"): "a folder, opened to be locked",
    ("refold/storage/file_lock.py", "_opened", "os.close"): "a folder that was locked",
    ("refold/storage/opened.py", "_LocalStore.try_swap", "locked"): "locks a folder that is there",
    ("refold/storage/opened.py", "_LocalStore._regular", "os.open"): "opened to read",
    ("refold/storage/opened.py", "_LocalStore.get_ranges", "os.pread"): "reads",
    ("refold/storage/opened.py", "_ObstoreStore.try_create", "obstore.put"): "of remote stores and memory",
    ("refold/storage/opened.py", "_ObstoreStore.try_swap", "obstore.put"): "of remote stores and memory",
    ("refold/storage/opened.py", "_RemoteStore.try_swap", "super().try_swap"): "of remote stores",
    ("refold/storage/opened.py", "_RemoteStore.put", "super().put"): "of remote stores",
    ("refold/storage/opened.py", "_RemoteStore.try_replace", "obstore.put"): "of remote stores",
    ("refold/storage/opened.py", "_RemoteStore.put_soon", "self._behind.put"): "of remote stores",
    ("refold/storage/opened.py", "_RemoteStore.try_create", "super().try_create"): "of remote stores",
    ("refold/storage/opened.py", "_RemoteStore.delete", "super().delete"): "of remote stores",
    ("refold/seal/redacting.py", "Redactor._rewritten", "self._repeats"): "of contents that were in conflict, there",
    ("refold/seal/redacting.py", "Redactor._repeats", "put_content"): "the same; an object that nothing names yet",
    (
        "refold/incremental/carried.py",
        "put_carried",
        "put_content",
    ): "a cache that nothing names yet, of long histories",
    ("refold/incremental/carried.py", "put_carried", "writer.write_table"): "into memory",
    ("refold/stores/checkpoint.py", "Checkpoints.save_state", "self._record"): "waits; `grouped` writes it",
    ("refold/storage/objects.py", "ObjectStore.create", "require_conditions"): "of remote stores",
    ("refold/storage/probe.py", "require_conditions", "_accepts_create"): "of remote stores",
    ("refold/storage/probe.py", "_accepts_create", "store.try_create"): "of remote stores",
    ("refold/engine.py", "Engine.__init__", "share_allocator"): "where memory comes from",
    ("refold/base/memory.py", "share_allocator", "os.environ.keys"): "a look at the environment",
    ("refold/base/parallel.py", "", "os.register_at_fork"): "threads",
    ("refold/dedup/spill.py", "Kept.keep", "tempfile.TemporaryFile"): "a temporary file",
    ("refold/dedup/repeated_hashes.py", "RepeatedHashes._spill", "tempfile.TemporaryDirectory"): "temporary files",
    ("refold/dedup/repeated_hashes.py", "RepeatedHashes._spill", "self._file().open"): "a temporary file",
    ("refold/dedup/repeated_hashes.py", "RepeatedHashes._spill", "file.write"): "a temporary file",
    ("refold/base/kernel_cache.py", "_KernelCache.save_overload", "_write"): "killed where it writes",
    ("refold/base/kernel_cache.py", "_write", "Path().unlink"): "after a write that failed",
    ("refold/sinks/database.py", "Database.at_once", "connection.execute"): "of leases, see there",
    ("refold/sinks/database_postgres.py", "_watch", "connection.execute"): "a query of what blocks a session",
    ("refold/sinks/database_sqlite.py", "immutable_engine.connect", "sqlite3.connect"): "opens a file only to read it",
    ("refold/sinks/sql_faults.py", "shadow_faults", "connection.execute"): "a query of PostgreSQL's catalogue",
    ("refold/sinks/sql_faults.py", "shadow_faults", "connection.scalar"): "a query of the search path",
    ("refold/sinks/sql_faults.py", "shadow_faults", "connection.scalars"): "queries of PostgreSQL's catalogue",
    ("refold/sinks/sql_faults.py", "view_faults", "connection.scalars"): "a query of PostgreSQL's catalogue",
    ("refold/sinks/tantivy_faults.py", "readable", "tempfile.TemporaryDirectory"): "temporary links to an index",
    ("refold/sinks/tantivy_faults.py", "readable", "….symlink_to"): "temporary links to an index",
    ("refold/sinks/bulk.py", "load_generally", "connection.execute"): "what others are tested to equal",
    ("refold/sinks/bulk.py", "fetch_generally", "connection.execute"): "a query",
    ("refold/sinks/sql_views.py", "follow_columns", "connection.scalars"): "a query of PostgreSQL's catalogue",
    ("refold/sinks/sql_views.py", "shows_exactly", "connection.execute"): "a query",
    ("refold/stores/folding.py", "_in_turn", "state.put"): "rows of a state in memory",
    ("refold/incremental/inputs.py", "Keyed.upsert", "self.rows.put"): "rows in memory",
    ("refold/stores/state.py", "Result.replace", "self.put"): "rows of a result in memory",
    ("refold/stores/sql_partials.py", "_Block.replaced", "call.replace"): "a node of a query's tree",
    ("refold/stores/sql_partials.py", "_Block.replaced", "column.replace"): "a node of a query's tree",
    ("refold/stores/sql_partials.py", "_Block.replaced", "self.table.replace"): "a node of a query's tree",
    ("refold/stores/sql_partials.py", "_Block._replace_all", "node.replace"): "a node of a query's tree",
    ("refold/stores/sql_tree.py", "_without_coalesced_keys", "node.replace"): "a node of a query's tree",
    ("refold/stores/incremental_query.py", "_rewritten.type_of", "cursor.execute"): "a DuckDB in memory",
    ("refold/stores/incremental_query.py", "_rewritten", "cursor.execute"): "a DuckDB in memory",
    ("refold/stores/incremental_query.py", "functions", "cursor.execute"): "a DuckDB in memory",
    ("refold/stores/sql_binding.py", "cursor_over", "cursor.execute"): "a DuckDB in memory",
    ("refold/stores/folding.py", "_taken", "state.put"): "rows of a state in memory",
    ("refold/stores/sql_binding.py", "connect", "connection.execute"): "a DuckDB in memory",
    ("refold/stores/sql_binding.py", "_bound", "cursor.execute"): "a DuckDB in memory",
    ("refold/stores/sql_binding.py", "_is_reserved", "_connection().execute"): "a DuckDB in memory",
    ("refold/stores/sql_binding.py", "_cursor", "cursor.execute"): "a DuckDB in memory",
    ("refold/stores/sql_binding.py", "_answered", "cursor.execute"): "a DuckDB in memory",
    ("refold/rebuild/phases.py", "RebuildRun._publish", "engine.served.repair"): "killed where it repairs",
}
"""Calls that are named like writes and are none, as (file, function, call), and what they are."""


End = tuple[int | None, int | None]
"""Where a call ends, as line and column, which is where no other call ends."""

Place = tuple[int | None, int | None, int | None, int | None]
"""First and last line, first and last column, as code objects tell them."""


@dataclass(frozen=True)
class Site:
    """One call in the code: its file, where it ends (which is no other call's end), in which function, and its text."""

    file: str
    line: int
    column: int
    function: str
    call: str
    starts: int

    def __str__(self) -> str:
        return f"{self.file}:{self.starts} {self.call} in {self.function}"

    @property
    def is_statement(self) -> bool:
        """Whether it is a statement or a transaction of a database, which writes or only reads."""
        return self.call.rpartition(".")[2] in STATEMENTS

    @property
    def name(self) -> tuple[str, str, str]:
        """What it is known by in a list: without line numbers, which move."""
        return self.file, self.function, self.call


def find_sites(package: Path = PACKAGE) -> list[Site]:
    """Every call that may write in the modules on the way from landing to readers, in the order of files and lines."""
    paths = [path for path in sorted(package.rglob("*.py")) if not is_beside(path.relative_to(package))]
    modules = [Module.read(path, package.parent) for path in paths]
    # What a generator does is done where it is read from, so a call that only makes one is no write.
    generators = {f"{module.file}:{name}" for module in modules for name in module.generators()}
    writers: set[str] = set()
    while True:
        found = [site for module in modules for site in module.sites(writers) if site.name not in EXEMPT]
        # A statement may be a query; whether it is shows at work, and must show for each by itself.
        more = {f"{site.file}:{site.function}" for site in found if not site.is_statement} - generators | writers
        if more == writers:
            return found
        writers = more


def is_beside(path: Path) -> bool:
    """Whether a file of the package, by its path below it, is not looked at."""
    return path.parts[0] in BESIDE or path.as_posix() in BESIDE


@dataclass(frozen=True)
class Module:
    """A module's syntax tree, what its names are imported from, and which functions its calls stand in."""

    file: str
    tree: ast.Module
    imported: Mapping[str, str]

    @classmethod
    def read(cls, path: Path, root: Path) -> Module:
        """Parse a file."""
        tree = ast.parse(path.read_text(encoding="utf-8"))
        return cls(path.relative_to(root).as_posix(), tree, dict(_imports(tree)))

    def sites(self, writers: set[str]) -> Iterator[Site]:
        """The calls that may write, given the functions that are known to."""
        for function, call in calls_of(self.tree):
            text = text_of(call.func)
            if self._writes(call, text, function, writers):
                end = call.end_lineno or call.lineno, call.end_col_offset or 0
                yield Site(self.file, *end, function, text, call.lineno)

    def generators(self) -> Iterator[str]:
        """The functions that yield and are no context managers."""
        for function, node in _functions(self.tree):
            managed = any("contextmanager" in ast.unparse(each) for each in node.decorator_list)
            if not managed and any(isinstance(inner, ast.Yield | ast.YieldFrom) for inner in _own(node)):
                yield function

    def _writes(self, call: ast.Call, text: str, function: str, writers: set[str]) -> bool:
        origin = self._origin(text)
        library, name = _library(origin)
        if library is not None:
            return name not in READING[library]
        if origin.partition(".")[0] in ("sqlalchemy", "pyarrow", "numpy"):
            return False  # they build statements and tables, and do nothing by themselves
        if isinstance(call.func, ast.Name):
            module, _, named = origin.rpartition(".")
            ours = f"{module.replace('.', '/')}.py:{named}" if module else f"{self.file}:{text}"
            return ours in writers or (text == "open" and _opens_to_write(call, 1))
        if not isinstance(call.func, ast.Attribute):
            return False
        method = f"{self.file}:{function.rpartition('.')[0]}.{call.func.attr}"
        mine = text == f"self.{call.func.attr}" and method in writers
        # `replace` with one argument is of a path, and with two of a text.
        moves = call.func.attr == "replace" and len(call.args) == 1 and not call.keywords
        opens = call.func.attr == "open" and _opens_to_write(call, 0)
        return mine or moves or opens or call.func.attr in WRITING

    def _origin(self, text: str) -> str:
        """The full name of what is called, where its first part is imported; "" where it is not."""
        first, _, rest = text.partition(".")
        imported = self.imported.get(first, "") if "()" not in text else ""
        return f"{imported}.{rest}" if imported and rest else imported


def _imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.name.partition(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (bound, bound)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _library(name: str) -> tuple[str | None, str]:
    """The library of `READING` that a full name is of, the longest, and the rest of the name."""
    for library in sorted(READING, key=len, reverse=True):
        if name.startswith(f"{library}."):
            return library, name[len(library) + 1 :]
    return None, name


def calls_of(tree: ast.AST, function: str = "") -> Iterator[tuple[str, ast.Call]]:
    """All calls, each with the function that contains it."""
    for node in ast.iter_child_nodes(tree):
        inner = function
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            inner = f"{function}.{node.name}" if function else node.name
        if isinstance(node, ast.Call):
            yield function, node
        yield from calls_of(node, inner)


def _functions(tree: ast.AST, outer: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        inner = outer
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            inner = f"{outer}.{node.name}" if outer else node.name
        if isinstance(node, ast.FunctionDef):
            yield inner, node
        yield from _functions(node, inner)


def _own(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions inside it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, ast.FunctionDef | ast.Lambda):
            yield node
            yield from _own(node)


def text_of(node: ast.expr) -> str:
    """What is called, as it is written, with calls and subscripts on the way shortened."""
    if isinstance(node, ast.Attribute):
        return f"{text_of(node.value)}.{node.attr}"
    if isinstance(node, ast.Call):
        return f"{text_of(node.func)}()"
    return node.id if isinstance(node, ast.Name) else "…"


def _opens_to_write(call: ast.Call, place: int) -> bool:
    """Whether a file is opened by a mode that writes."""
    modes = [*call.args[place : place + 1], *(word.value for word in call.keywords if word.arg == "mode")]
    texts = [mode.value for mode in modes if isinstance(mode, ast.Constant) and isinstance(mode.value, str)]
    return any(re.fullmatch(r"[rwaxbt+]{1,3}", text) and set(text) & set("wax+") for text in texts)


@cache
def _places(file: str) -> tuple[frozenset[End], Mapping[Place, tuple[End, ...]]]:
    """Where the calls of a file end, and for every `with` statement where the calls of its heads end."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    ends, heads = set(), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            ends.add((node.end_lineno, node.end_col_offset))
        elif isinstance(node, ast.With):
            calls = [c for item in node.items for c in ast.walk(item.context_expr) if isinstance(c, ast.Call)]
            place = (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset)
            heads[place] = tuple((c.end_lineno, c.end_col_offset) for c in calls)
    return frozenset(ends), heads


def know_calls(files: Iterable[str]) -> None:
    """Read files now, so that forks of this process need not."""
    for file in set(files):
        _places(file)


def calls_at(file: str, place: Place) -> tuple[End, ...]:
    """The ends of the calls that an instruction at a place belongs to.

    Entering and leaving a `with` has the place of the whole statement, and belongs to the calls in its head.
    """
    ends, heads = _places(file)
    if place in heads:
        return heads[place]
    _, end_line, _, end_column = place
    return ((end_line, end_column),) if (end_line, end_column) in ends else ()
