"""What the scheduler remembers: SQLAlchemy over SQLite (PostgreSQL to come).

`schema` has the tables, `engine` connections and transactions, `record` the one way in which a
job's row changes, `commit` the group commit for streams, and one module per group of queries.
"""
