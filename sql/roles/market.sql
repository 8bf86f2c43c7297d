-- Three roles with the least each needs, for the database of market data. Not a migration: roles belong to the whole server,
-- and making them takes rights that the owner of one database may lack. Run by a superuser, or by a role with CREATEROLE
-- that owns the database's schema market, connected to that database; again whenever you like: it says what is to hold.
--
--   backfill_owner   owns schema market and everything in it: runs `backfill db migrate`
--   backfill_writer  runs the pipeline: reads and writes rows, changes no table
--   backfill_reader  reads market data; not how requests are shared, nor what Dagster keeps
--
-- They may log in and have no password yet: \password backfill_writer in psql sets one that no log shows.
DO $$
DECLARE
    role_ text;
    kind  text;
    name_ text;
BEGIN
    FOREACH role_ IN ARRAY ARRAY['backfill_owner', 'backfill_writer', 'backfill_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOCREATEDB NOCREATEROLE', role_);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role_);
        -- For psql and notebooks: market_data without the schema before it.
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET search_path = market, public', role_, current_database());
    END LOOP;
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT backfill_owner TO %I', current_user);  -- to hand tables over to it
    END IF;
    EXECUTE format('GRANT CREATE, TEMPORARY ON DATABASE %I TO backfill_owner', current_database());
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO backfill_writer', current_database());

    CREATE SCHEMA IF NOT EXISTS market;
    ALTER SCHEMA market OWNER TO backfill_owner;
    FOR kind, name_ IN
        SELECT CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, oid::regclass::text
        FROM pg_class AS c
        WHERE relnamespace = 'market'::regnamespace AND relkind IN ('r', 'p', 'v', 'S')
        -- A column's own sequence goes with its table.
        AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND classid = 'pg_class'::regclass AND deptype IN ('i', 'a'))
        UNION ALL
        SELECT 'ROUTINE', oid::regprocedure::text FROM pg_proc AS p
        WHERE pronamespace = 'market'::regnamespace
        -- A range type's constructors go with the type.
        AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND classid = 'pg_proc'::regclass AND deptype = 'i')
        UNION ALL
        SELECT 'TYPE', oid::regtype::text FROM pg_type WHERE typnamespace = 'market'::regnamespace AND typtype IN ('e', 'r')
    LOOP
        EXECUTE format('ALTER %s %s OWNER TO backfill_owner', kind, name_);
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA market TO backfill_writer, backfill_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA market TO backfill_writer;
GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA market TO backfill_writer;
GRANT SELECT ON ALL TABLES IN SCHEMA market TO backfill_reader;

-- The same for what later migrations make.
ALTER DEFAULT PRIVILEGES FOR ROLE backfill_owner IN SCHEMA market
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO backfill_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE backfill_owner IN SCHEMA market
    GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO backfill_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE backfill_owner IN SCHEMA market GRANT SELECT ON TABLES TO backfill_reader;

-- Which migrations are applied, nobody writes but who applies them; how requests are shared concerns no reader.
DO $$
BEGIN
    IF to_regclass('market.schema_migrations') IS NOT NULL THEN
        REVOKE INSERT, UPDATE, DELETE ON market.schema_migrations FROM backfill_writer;
    END IF;
    IF to_regclass('market.provider_budget') IS NOT NULL THEN
        REVOKE ALL ON market.provider_budget, market.provider_queue, market.provider_limits FROM backfill_reader;
    END IF;
END
$$;
