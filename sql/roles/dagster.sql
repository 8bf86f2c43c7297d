-- The same roles in Dagster's own database, where the reader has no business. Run it connected to that database, after
-- market.sql and after `backfill db migrate`, which makes Dagster's tables; again after `dagster instance migrate`.
DO $$
DECLARE
    kind  text;
    name_ text;
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC, backfill_reader', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO backfill_owner, backfill_writer', current_database());
    EXECUTE format('GRANT CREATE, TEMPORARY ON DATABASE %I TO backfill_owner', current_database());
    GRANT USAGE, CREATE ON SCHEMA public TO backfill_owner;
    GRANT USAGE ON SCHEMA public TO backfill_writer;
    FOR kind, name_ IN
        SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, oid::regclass::text
        FROM pg_class AS c
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'S')
        AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND classid = 'pg_class'::regclass AND deptype IN ('i', 'a'))
    LOOP
        EXECUTE format('ALTER %s %s OWNER TO backfill_owner', kind, name_);
    END LOOP;
END
$$;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO backfill_writer;
GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO backfill_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE backfill_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO backfill_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE backfill_owner IN SCHEMA public
    GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO backfill_writer;
