"""What the scheduler remembers: SQLAlchemy over SQLite or PostgreSQL.

`schema` has the tables, `engine` connections and transactions, `record` the one way in which a
job's row changes, `commit` the group commit for streams, and one module per group of queries.
"""
