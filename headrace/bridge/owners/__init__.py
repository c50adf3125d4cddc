"""Who still touches the tables of a shared database: as the database knows it, and as sources say it."""
