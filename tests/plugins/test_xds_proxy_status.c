/* SPDX-License-Identifier: Apache-2.0 */
/* The rows behind xds_status: what counts, what is kept, and that peers cannot make it grow. */
#include <stdio.h>
#include <string.h>

#include "plugins/xds_proxy/status.h"
#include "tests/harness/test.h"

/* A message as the scanner would have left it. */
static void set_text(struct scan_text *text, const char *value)
{
    rig_buf_clear(&text->buf);
    rig_buf_append_text(&text->buf, value);
}

static struct scan scan_of(const char *type_url, const char *nonce)
{
    struct scan scan;
    scan_init(&scan, SCAN_RESPONSE);
    set_text(&scan.type_url, type_url);
    set_text(&scan.nonce, nonce);
    return scan;
}

static void push_replaces_what_was_known(void **state)
{
    (void)state;
    struct status status = {0};
    struct scan scan = scan_of("T", "n1");
    struct xds_type_status row;
    assert_false(status_type(&status, 0, &row));
    set_text(&scan.version, "v1");
    scan.resources = 7;
    status_push(&status, &scan, 100);
    set_text(&scan.version, "v2");
    set_text(&scan.nonce, "n2");
    scan.resources = 3;
    status_push(&status, &scan, 50);
    assert_true(status_type(&status, 0, &row));
    assert_false(status_type(&status, 1, &row));
    assert_string_equal(row.type_url, "T");
    assert_string_equal(row.version, "v2");
    assert_string_equal(row.nonce, "n2");
    assert_int_equal(row.pushes, 2);
    assert_int_equal(row.bytes, 50);
    assert_int_equal(row.resources, 3);
    assert_string_equal(row.last_nack, "");
    scan_deinit(&scan);
    status_deinit(&status);
}

static void only_requests_with_a_nonce_are_replies(void **state)
{
    (void)state;
    struct status status = {0};
    struct xds_type_status row;
    struct scan scan = scan_of("T", "");
    status_push(&status, &scan, 1);
    status_reply(&status, &scan);
    set_text(&scan.nonce, "n");
    status_reply(&status, &scan);
    scan.has_error = true;
    set_text(&scan.error, "line one\nline \x01\xff two");
    status_reply(&status, &scan);
    status_reply(&status, &scan);
    assert_true(status_type(&status, 0, &row));
    assert_int_equal(row.acks, 1);
    assert_int_equal(row.nacks, 2);
    assert_int_equal(row.pushes, 1);
    assert_string_equal(row.last_nack, "line one line ?? two");
    scan_deinit(&scan);
    status_deinit(&status);
}

static void types_are_bounded(void **state)
{
    (void)state;
    struct status status = {0};
    struct xds_type_status row;
    struct scan scan = scan_of("", "n");
    status_push(&status, &scan, 1); /* no type, no row */
    for (int i = 0; i < 3 * STATUS_TYPES_MAX; i++) {
        char type_url[32];
        snprintf(type_url, sizeof(type_url), "type %d", i);
        set_text(&scan.type_url, type_url);
        status_push(&status, &scan, 1);
    }
    assert_true(status_type(&status, STATUS_TYPES_MAX - 1, &row));
    assert_string_equal(row.type_url, "type 63");
    assert_false(status_type(&status, STATUS_TYPES_MAX, &row));
    scan_deinit(&scan);
    status_deinit(&status);
}

/* Any process of the pod can send requests; what it names must not take the rows of what passed. */
static void replies_make_no_rows(void **state)
{
    (void)state;
    struct status status = {0};
    struct xds_type_status row;
    struct scan scan = scan_of("", "n");
    for (int i = 0; i < STATUS_TYPES_MAX; i++) {
        char type_url[32];
        snprintf(type_url, sizeof(type_url), "invented %d", i);
        set_text(&scan.type_url, type_url);
        status_reply(&status, &scan);
    }
    set_text(&scan.type_url, "real\n\xff");
    status_push(&status, &scan, 1);
    status_reply(&status, &scan);
    assert_true(status_type(&status, 0, &row));
    assert_string_equal(row.type_url, "real ?");
    assert_int_equal(row.acks, 1);
    assert_false(status_type(&status, 1, &row));
    scan_deinit(&scan);
    status_deinit(&status);
}

static void same_thing_is_said_once(void **state)
{
    (void)state;
    struct status status = {0};
    assert_true(status_say(&status, RIG_SLICE("T"), RIG_SLICE("reason")));
    assert_false(status_say(&status, RIG_SLICE("T"), RIG_SLICE("reason")));
    assert_true(status_say(&status, RIG_SLICE("T"), RIG_SLICE("other")));
    assert_true(status_say(&status, RIG_SLICE("U"), RIG_SLICE("reason")));
    assert_true(status_say(&status, RIG_SLICE("Tr"), RIG_SLICE("eason")));
    assert_false(status_say(&status, RIG_SLICE("T"), RIG_SLICE("reason")));
    status_deinit(&status);
}

static void peers_do_not_fill_the_log(void **state)
{
    (void)state;
    struct status status = {0};
    unsigned said = 0;
    for (int i = 0; i < 1000; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        said += status_say(&status, RIG_SLICE("T"), rig_slice_text(text));
    }
    assert_int_equal(said, 16);
    /* A minute later there is room again. */
    for (int i = 0; i < STATUS_SAID_MAX; i++)
        status.said.said_ms[i] -= 60000;
    assert_true(status_say(&status, RIG_SLICE("T"), RIG_SLICE("later")));
    status_deinit(&status);
}

static void failure_is_kept_until_recovery(void **state)
{
    (void)state;
    struct status status = {0};
    assert_string_equal(status_last_failure(&status), "");
    status_fail(&status, "%s: %s", "TLS", "bad\ncertificate");
    assert_string_equal(status_last_failure(&status), "TLS: bad certificate");
    status_recover(&status);
    assert_string_equal(status_last_failure(&status), "");
    status_deinit(&status);
}

RIG_TEST_MAIN(cmocka_unit_test(push_replaces_what_was_known),
              cmocka_unit_test(only_requests_with_a_nonce_are_replies),
              cmocka_unit_test(types_are_bounded), cmocka_unit_test(replies_make_no_rows),
              cmocka_unit_test(same_thing_is_said_once),
              cmocka_unit_test(peers_do_not_fill_the_log),
              cmocka_unit_test(failure_is_kept_until_recovery))
