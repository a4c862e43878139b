-- The shop: its stock, and the books of the services that it calls (payments, orders, carrier, notices).
--
-- A reference names one purchase at every service: the id of the execution that carries it out. Each service keeps one
-- row per reference, for the effect and its undoing alike. An undoing that comes first leaves a row without an effect:
-- a tombstone, which the late effect finds and is refused by.
--
-- Every *_key column holds the idempotency key of the call that made the change.

CREATE SCHEMA shop;

CREATE TABLE shop.customer (
    customer_id  text PRIMARY KEY,
    company_name text NOT NULL
);

-- Room for new row versions on the same page: every order updates its products.
CREATE TABLE shop.product (
    product_id     integer PRIMARY KEY,
    product_name   text    NOT NULL,
    initial_stock  integer NOT NULL,
    units_in_stock integer NOT NULL,
    CONSTRAINT stock_is_never_negative CHECK (units_in_stock >= 0)
) WITH (fillfactor = 50);

CREATE TABLE shop.reservation (
    reference   text    NOT NULL,
    product_id  integer NOT NULL REFERENCES shop.product,
    order_id    integer NOT NULL,
    quantity    integer NOT NULL,
    reserved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    released_at timestamptz,
    reserve_key text NOT NULL,
    release_key text,
    PRIMARY KEY (reference, product_id),
    CONSTRAINT reserved_quantity_is_positive CHECK (quantity > 0)
);

-- Demand that the stock could not meet, for purchasing. Written apart from the reservation, which was rolled back.
CREATE TABLE shop.shortage (
    reference  text PRIMARY KEY,
    order_id   integer NOT NULL,
    product_id integer NOT NULL,
    quantity   integer NOT NULL,
    noted_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE shop.payment (
    reference     text PRIMARY KEY,
    order_id      integer NOT NULL,
    authorised    numeric(12, 2) NOT NULL DEFAULT 0,
    captured      numeric(12, 2) NOT NULL DEFAULT 0,
    refunded      numeric(12, 2) NOT NULL DEFAULT 0,
    authorised_at timestamptz,
    captured_at   timestamptz,
    voided_at     timestamptz,
    refunded_at   timestamptz,
    authorise_key text UNIQUE,
    capture_key   text UNIQUE,
    void_key      text UNIQUE,
    refund_key    text UNIQUE,
    CONSTRAINT captured_only_if_authorised CHECK (captured_at IS NULL OR authorised_at IS NOT NULL),
    CONSTRAINT captured_or_voided_not_both CHECK (captured_at IS NULL OR voided_at IS NULL),
    CONSTRAINT amounts_in_order CHECK (0 <= refunded AND refunded <= captured AND captured <= authorised)
);

CREATE TABLE shop.sales_order (
    reference    text PRIMARY KEY,
    order_id     integer NOT NULL,
    customer_id  text,
    placed_at    timestamptz,
    cancelled_at timestamptz,
    place_key    text UNIQUE,
    cancel_key   text UNIQUE
);

CREATE UNIQUE INDEX one_live_sales_order ON shop.sales_order (order_id)
    WHERE placed_at IS NOT NULL AND cancelled_at IS NULL;

CREATE TABLE shop.order_line (
    reference  text    NOT NULL REFERENCES shop.sales_order,
    product_id integer NOT NULL,
    unit_price numeric(12, 2) NOT NULL,
    quantity   integer NOT NULL,
    discount   numeric(3, 2) NOT NULL,
    PRIMARY KEY (reference, product_id)
);

CREATE TABLE shop.shipment (
    reference       text PRIMARY KEY,
    order_id        integer NOT NULL,
    shipper_id      integer,
    tracking_number text,
    booked_at       timestamptz,
    cancelled_at    timestamptz,
    book_key        text UNIQUE,
    cancel_key      text UNIQUE
);

-- Both letters that a customer may get: that the goods are on their way, and that they are not after all.
CREATE TABLE shop.notice (
    reference    text PRIMARY KEY,
    order_id     integer NOT NULL,
    customer_id  text,
    sent_at      timestamptz,
    withdrawn_at timestamptz,
    send_key     text UNIQUE,
    withdraw_key text UNIQUE
);

-- Every call as its service saw it, written by the same statement as the effect. Nothing here is unique, so that an
-- effect made twice would show.
CREATE TABLE shop.call (
    call_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    service         text NOT NULL,
    action          text NOT NULL,
    idempotency_key text NOT NULL,
    reference       text NOT NULL,
    effect          boolean NOT NULL,
    called_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE VIEW shop.fulfilled AS
SELECT o.reference, o.order_id, l.total
FROM shop.sales_order o
JOIN shop.payment p USING (reference)
JOIN shop.shipment s USING (reference)
JOIN shop.notice n USING (reference)
CROSS JOIN LATERAL (
    SELECT sum(round(unit_price * quantity * (1 - discount), 2)) AS total
    FROM shop.order_line WHERE order_line.reference = o.reference
) l
WHERE o.placed_at IS NOT NULL AND o.cancelled_at IS NULL
  AND p.captured_at IS NOT NULL AND p.refunded_at IS NULL
  AND s.booked_at IS NOT NULL AND s.cancelled_at IS NULL
  AND n.sent_at IS NOT NULL AND n.withdrawn_at IS NULL;
