"""The code of chapters, as tests run it: whole cells, or only what some names need."""

import ast
import symtable

from book.bootstrap import is_bootstrap
from book.execute import TWINS, code_cells, from_twin


def cells(chapter):
    """The sources of a chapter's code cells, without the one that finds the library."""
    return [cell.source for cell in code_cells(from_twin(TWINS / f"{chapter}.md")) if not is_bootstrap(cell)]


def defined(chapter, *wanted):
    """What a chapter's cells define under these names, from running only the statements that they need."""
    statements = [ast.unparse(statement) for cell in cells(chapter) for statement in ast.parse(cell).body]
    needed, kept = set(wanted), []
    for code in reversed(statements):
        table = symtable.symtable(code, chapter, "exec")
        bound = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
        if bound & needed:
            needed = (needed - bound) | used(table)
            kept.append(code)
    namespace = {}
    for code in reversed(kept):
        exec(code, namespace)
    return [namespace[name] for name in wanted]


def used(table):
    """Names of the module that a piece of code looks up, in its functions too."""
    here = table.get_type() == "module"
    names = {s.get_name() for s in table.get_symbols() if s.is_referenced() and (here or s.is_global())}
    return names.union(*map(used, table.get_children()))
