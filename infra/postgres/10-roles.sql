-- One role and one schema per service, in the database that the image has just made. Run by psql, once, when the
-- volume is new; passwords come from the environment.
--
-- A role owns its schema and sees no other. It may create in the database because the migrations say CREATE
-- SCHEMA IF NOT EXISTS, and PostgreSQL asks for that right before it looks whether the schema is there.
\set ON_ERROR_STOP on
\getenv tools_password TOOLS_DATABASE_PASSWORD
\getenv notify_password NOTIFY_DATABASE_PASSWORD

CREATE ROLE tools LOGIN PASSWORD :'tools_password';
CREATE ROLE notify LOGIN PASSWORD :'notify_password';

SELECT current_database() AS database \gset
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT, CREATE ON DATABASE :"database" TO tools, notify;
REVOKE ALL ON SCHEMA public FROM PUBLIC;

CREATE SCHEMA tools AUTHORIZATION tools;
CREATE SCHEMA notify AUTHORIZATION notify;
