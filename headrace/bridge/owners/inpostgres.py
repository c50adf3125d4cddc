"""What PostgreSQL knows of who touches a table: sessions, counted statements, rights, dependent objects."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from headrace.bridge.owners.finding import Finding, Found, Kind, Own, Touch, Whose
from headrace.bridge.owners.mentions import mentions, word
from headrace.bridge.owners.sources import excerpt
from headrace.bridge.session import Session, quoted
from headrace.errors import StatementRefused

HIDDEN = "<insufficient privilege>"
"""What the server writes instead of a statement of another role."""
_OURS = "headrace_"

_RESOLVE = "SELECT to_regclass(%s)::oid"
# The table, its partitions, and the views over it: who reads a view takes locks on the table, too.
_RELATIONS = """WITH RECURSIVE reached(id) AS (
        SELECT %s::oid
        UNION SELECT next.id FROM reached CROSS JOIN LATERAL (
            SELECT inhrelid AS id FROM pg_inherits WHERE inhparent = reached.id
            UNION ALL SELECT rule.ev_class FROM pg_depend d JOIN pg_rewrite rule ON rule.oid = d.objid
                WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
                    AND d.refobjid = reached.id) AS next)
    SELECT c.oid, c.oid::regclass::text, c.relkind::text, pg_get_userbyid(c.relowner)::text
    FROM reached JOIN pg_class c ON c.oid = reached.id ORDER BY c.oid"""
_TRIGGERS = """SELECT t.tgname::text, pg_get_triggerdef(t.oid), pg_get_userbyid(p.proowner)::text
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = ANY(%s::oid[]) AND NOT t.tgisinternal ORDER BY t.tgname"""
_FOREIGN_KEYS = """SELECT k.conrelid::regclass::text, k.conname::text, pg_get_constraintdef(k.oid),
        pg_get_userbyid(c.relowner)::text
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
    WHERE k.contype = 'f' AND k.confrelid = ANY(%s::oid[]) AND NOT k.conrelid = ANY(%s::oid[])
    ORDER BY k.conname"""
_PUBLICATIONS = """SELECT p.pubname::text, pg_get_userbyid(p.pubowner)::text
    FROM pg_publication_tables t JOIN pg_publication p ON p.pubname = t.pubname
    JOIN pg_namespace n ON n.nspname = t.schemaname
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
    WHERE c.oid = ANY(%s::oid[]) ORDER BY p.pubname"""
_FUNCTIONS = """SELECT p.oid::regprocedure::text, p.prosrc, pg_get_userbyid(p.proowner)::text FROM pg_proc p
    JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND strpos(lower(p.prosrc), lower(%s)) > 0
    ORDER BY 1"""
# A role has what is granted to it, and to every role that it is a member of, inherited or by SET ROLE.
_GRANTS = """WITH granted AS (
        SELECT c.oid AS relation, a.grantee, a.privilege_type FROM pg_class c,
            aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a WHERE c.oid = ANY(%s::oid[])
        UNION SELECT t.attrelid, a.grantee, a.privilege_type FROM pg_attribute t, aclexplode(t.attacl) a
            WHERE t.attrelid = ANY(%s::oid[])
        UNION SELECT c.oid, r.oid, p.type FROM pg_class c, pg_roles r JOIN (VALUES
            ('pg_read_all_data', 'SELECT'), ('pg_write_all_data', 'INSERT'),
            ('pg_write_all_data', 'UPDATE'), ('pg_write_all_data', 'DELETE')) AS p(role, type)
            ON r.rolname = p.role WHERE c.oid = ANY(%s::oid[])),
    named AS (SELECT relation, 'PUBLIC' AS who, '' AS via, privilege_type FROM granted WHERE grantee = 0
        UNION ALL SELECT relation, r.rolname::text,
            CASE WHEN grantee = r.oid THEN '' ELSE pg_get_userbyid(grantee)::text END, privilege_type
        FROM granted JOIN pg_roles r ON grantee = r.oid OR pg_has_role(r.oid, grantee, 'MEMBER')
        WHERE grantee <> 0 AND r.rolcanlogin AND NOT r.rolsuper)
    SELECT named.who, c.oid::regclass::text, pg_get_userbyid(c.relowner)::text = named.who,
        array_agg(DISTINCT named.privilege_type::text), array_agg(DISTINCT named.via)
    FROM named JOIN pg_class c ON c.oid = named.relation
    WHERE named.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
    GROUP BY named.who, c.oid ORDER BY named.who, c.oid"""
_SUPERUSERS = "SELECT rolname::text FROM pg_roles WHERE rolsuper AND rolcanlogin ORDER BY rolname"
_SESSIONS = """SELECT a.pid, a.usename::text, coalesce(a.application_name, ''),
        coalesce(host(a.client_addr), ''), coalesce(a.state, ''), a.query_start::text, coalesce(a.query, ''),
        array(SELECT DISTINCT l.mode FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'relation'
            AND l.database = a.datid AND l.relation = ANY(%s::oid[]))
    FROM pg_stat_activity a JOIN pg_database d ON d.oid = a.datid
    WHERE d.datname = current_database() AND a.pid <> pg_backend_pid() AND a.usesysid IS NOT NULL
        AND coalesce(a.backend_type, 'client backend') <> 'parallel worker'
    ORDER BY a.pid"""
_COUNTING = """SELECT c.oid::regclass::text FROM pg_class c
    WHERE c.relname = 'pg_stat_statements' AND c.relkind = 'v' LIMIT 1"""
_STATEMENTS = """SELECT pg_get_userbyid(s.userid)::text, s.query, s.calls FROM {view} s
    JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = current_database() ORDER BY s.calls DESC"""

_READ_LOCKS = frozenset({"AccessShareLock", "RowShareLock"})
_WHATS = {"v": "view", "m": "materialized view", "r": "partition", "p": "partition", "f": "partition"}


@dataclass(frozen=True, slots=True)
class _Relations:
    """A table and what is reached through it."""

    table: str
    ids: list[int]
    others: Sequence[tuple[str, str, str]]
    """Name, what it is, and owner of the views and partitions."""


class InPostgres:
    """Asks the server, over one session."""

    def __init__(self, session: Session, own: Own, found: Found) -> None:
        self._session = session
        self._own = own
        self._found = found
        self._role = ""

    async def look(self, tables: Sequence[str]) -> list[str]:
        """Find out who touches these tables; those that are not there."""
        fetch = self._session.fetch
        ((self._role,),) = await fetch("SELECT current_user::text")
        known: list[_Relations] = []
        for name in tables:
            ((table,),) = await fetch(_RESOLVE, (quoted(name),))
            if table is not None:
                known.append(await self._relations(name, table))
        every = [oid for each in known for oid in each.ids]
        sessions = [(each, await fetch(_SESSIONS, (each.ids,))) for each in known]
        counted = await self._counted()
        for each, rows in sessions:
            self._found.add(self._sessions(each, rows))
            self._found.add(self._statements(each, counted))
            self._found.add([finding async for finding in self._rights(each)])
            self._found.add([finding async for finding in self._objects(each, every)])
        self._tell_hidden([row for _, rows in sessions for row in rows], counted)
        supers = [name for (name,) in await fetch(_SUPERUSERS)]
        self._found.not_there.append(f"superusers may do everything and are not listed: {', '.join(supers)}")
        return [name for name in tables if name not in {each.table for each in known}]

    async def _relations(self, name: str, table: int) -> _Relations:
        rows = await self._session.fetch(_RELATIONS, (table,))
        others = [(called, _WHATS[kind], owner) for oid, called, kind, owner in rows if oid != table]
        return _Relations(name, [oid for oid, *_ in rows], others)

    # --- now, and since the statistics began

    def _sessions(self, on: _Relations, rows: Sequence[tuple[Any, ...]]) -> Iterator[Finding]:
        for pid, user, application, client, state, since, query, locks in rows:
            mention = None if query == HIDDEN else mentions(query, on.table)
            touch = Touch.UNTOLD if mention is None else mention.touch
            for lock in locks:
                touch |= Touch.READ if lock in _READ_LOCKS else Touch.WRITE
            if not touch:
                continue
            own = self._own.session(application)
            who = " ".join(
                filter(None, (application or "(no name)", f"as {user}", client and f"from {client}"))
            )
            held = f"holds {', '.join(sorted(locks))}; " if locks else ""
            what = f"pid {pid}, {state or 'state hidden'}, {held}since {since or '?'}: {excerpt(query)}"
            certain = bool(locks) or (mention is not None and mention.is_certain)
            whose = Whose.APP if own else Whose.OTHER if certain else Whose.UNCLEAR
            yield Finding(on.table, Kind.SESSION, who, touch, whose, what)

    async def _counted(self) -> Sequence[tuple[Any, ...]]:
        views = await self._session.fetch(_COUNTING)
        if not views:
            self._found.not_there.append(
                "pg_stat_statements is not installed: statements of the past are not known"
            )
            return ()
        try:
            return await self._session.fetch(_STATEMENTS.format(view=views[0][0]))
        except StatementRefused as error:
            self._found.not_there.append(f"pg_stat_statements does not answer: {error.what}")
            return ()

    def _statements(self, on: _Relations, counted: Sequence[tuple[Any, ...]]) -> Iterator[Finding]:
        for role, query, calls in counted:
            mention = None if query == HIDDEN else mentions(query, on.table)
            if mention is not None:
                # Who uses the same role as this command may be the app.
                is_other = role != self._role and mention.is_certain
                whose = Whose.OTHER if is_other else Whose.UNCLEAR
                what = f"{calls:,} calls: {excerpt(query)}"
                yield Finding(on.table, Kind.STATEMENT, role, mention.touch, whose, what)

    def _tell_hidden(self, sessions: Sequence[tuple[Any, ...]], counted: Sequence[tuple[Any, ...]]) -> None:
        hidden = len({row[0] for row in sessions if row[6] == HIDDEN})
        if hidden:
            self._found.not_seen.append(
                f"the last statements of {hidden} sessions: {self._role} is no member of pg_read_all_stats"
            )
        if hidden := sum(row[1] == HIDDEN for row in counted):
            self._found.not_seen.append(
                f"{hidden} counted statements: {self._role} is no member of pg_read_all_stats"
            )

    # --- what may be done, and what depends on it

    async def _rights(self, on: _Relations) -> AsyncIterator[Finding]:
        for who, relation, is_owner, privileges, vias in await self._session.fetch(_GRANTS, (on.ids,) * 3):
            touch = Touch.READ if "SELECT" in privileges else Touch.UNTOLD
            touch |= Touch.WRITE if {*privileges} - {"SELECT"} else Touch.UNTOLD
            through = sorted(filter(None, vias))
            what = " ".join(
                [
                    *(["owner:"] if is_owner else []),
                    f"{', '.join(sorted(privileges))} on {relation}",
                    *([f"as a member of {', '.join(through)}"] if through else []),
                ]
            )
            whose = Whose.APP if who == self._role else Whose.OTHER
            yield Finding(on.table, Kind.GRANT, who, touch, whose, what)

    async def _objects(self, on: _Relations, every: Sequence[int]) -> AsyncIterator[Finding]:
        fetch = self._session.fetch

        def object_(name: str, owner: str, what: str, touch: Touch = Touch.READ) -> Finding:
            whose = Whose.APP if name.startswith(_OURS) else Whose.OTHER
            return Finding(on.table, Kind.OBJECT, f"{name} of {owner}", touch, whose, what)

        for name, kind, owner in on.others:
            if kind != "partition":
                yield object_(name, owner, kind)
        for name, definition, owner in await fetch(_TRIGGERS, (on.ids,)):
            yield object_(name, owner, excerpt(definition))
        for table, name, definition, owner in await fetch(_FOREIGN_KEYS, (on.ids, [*every])):
            yield object_(table, owner, f"{name}: {definition}")
        for name, owner in await fetch(_PUBLICATIONS, (on.ids,)):
            yield object_(name, owner, "publication: whoever subscribes to it reads every change")
        for name, body, owner in await fetch(_FUNCTIONS, (on.table.rpartition(".")[2],)):
            if word(on.table).search(body) is None:
                continue
            mention = mentions(body, on.table)
            found = object_(name, owner, "function", mention.touch if mention else Touch.UNTOLD)
            yield found if found.whose is Whose.APP else replace(found, whose=Whose.UNCLEAR)
