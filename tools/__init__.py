"""How the book is made: notebooks from their text twins, their execution, the ledger page, the built pages."""
