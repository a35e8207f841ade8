"""What must survive: tables, migrations, transactions, blobs, the spool of updates. The only room that imports SQLAlchemy."""
