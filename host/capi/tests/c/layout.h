/* Numbers that programs were compiled with: they stay what they are in every version of the
 * interface, and what is added comes after them.  For C11 and C++17, on 64 bits. */
#ifndef ZEPTO_TEST_LAYOUT_H
#define ZEPTO_TEST_LAYOUT_H

#include "zepto.h"

#ifdef __cplusplus
#define HOLDS(condition) static_assert(condition, #condition)
#else
#define HOLDS(condition) _Static_assert(condition, #condition)
#endif
#define AT(type, field, offset) HOLDS(offsetof(type, field) == (offset))

HOLDS(sizeof(zepto_str) == 16);
AT(zepto_str, ptr, 0);
AT(zepto_str, len, 8);

HOLDS(sizeof(zepto_client_options) == 72);
AT(zepto_client_options, struct_size, 0);
AT(zepto_client_options, abi_version, 4);
AT(zepto_client_options, seeds, 8);
AT(zepto_client_options, seeds_len, 16);
AT(zepto_client_options, flags, 20);
AT(zepto_client_options, name, 24);
AT(zepto_client_options, secret_file, 40);
AT(zepto_client_options, connect_timeout_ns, 56);
AT(zepto_client_options, reserved, 64);

HOLDS(sizeof(zepto_producer_options) == 16);
AT(zepto_producer_options, struct_size, 0);
AT(zepto_producer_options, durability, 4);
AT(zepto_producer_options, flags, 8);
AT(zepto_producer_options, window, 12);

HOLDS(sizeof(zepto_tick) == 64);
AT(zepto_tick, sequence, 0);
AT(zepto_tick, event_time_ns, 8);
AT(zepto_tick, receive_time_ns, 16);
AT(zepto_tick, symbol, 24);
AT(zepto_tick, table, 28);
AT(zepto_tick, kind, 30);
AT(zepto_tick, flags, 31);
AT(zepto_tick, price, 32);
AT(zepto_tick, size, 40);
AT(zepto_tick, user, 48);

HOLDS(sizeof(zepto_account) == 240);
AT(zepto_account, struct_size, 0);
AT(zepto_account, parked_for, 4);
AT(zepto_account, accepted, 8);
AT(zepto_account, acknowledged, 16);
AT(zepto_account, refused, 24);
AT(zepto_account, in_flight, 32);
AT(zepto_account, parked, 40);
AT(zepto_account, refused_by, 48);

HOLDS(sizeof(zepto_member) == 80);
AT(zepto_member, struct_size, 0);
AT(zepto_member, state, 4);
AT(zepto_member, node, 8);
AT(zepto_member, weight, 12);
AT(zepto_member, incarnation, 16);
AT(zepto_member, name, 24);
AT(zepto_member, address, 40);
AT(zepto_member, zone, 56);
AT(zepto_member, partitions, 72);
AT(zepto_member, reserved, 76);

HOLDS(sizeof(zepto_route) == 24);
AT(zepto_route, struct_size, 0);
AT(zepto_route, partition, 4);
AT(zepto_route, epoch, 8);
AT(zepto_route, node, 16);
AT(zepto_route, online, 20);

HOLDS(sizeof(zepto_query) == 88);
AT(zepto_query, struct_size, 0);
AT(zepto_query, table, 4);
AT(zepto_query, symbol, 8);
AT(zepto_query, from_ns, 24);
AT(zepto_query, to_ns, 32);
AT(zepto_query, kinds, 40);
AT(zepto_query, timeout_ns, 72);
AT(zepto_query, limit, 80);
AT(zepto_query, reserved, 84);

HOLDS(sizeof(zepto_aggregate) == 96);
AT(zepto_aggregate, struct_size, 0);
AT(zepto_aggregate, has_vwap, 4);
AT(zepto_aggregate, count, 8);
AT(zepto_aggregate, vwap, 16);
AT(zepto_aggregate, open, 24);
AT(zepto_aggregate, high, 32);
AT(zepto_aggregate, low, 40);
AT(zepto_aggregate, close, 48);
AT(zepto_aggregate, first_time_ns, 56);
AT(zepto_aggregate, last_time_ns, 64);
AT(zepto_aggregate, size_low, 72);
AT(zepto_aggregate, size_high, 80);
AT(zepto_aggregate, start_ns, 88);

HOLDS(ZEPTO_OK == 0);
HOLDS(ZEPTO_E_INVALID == -1);
HOLDS(ZEPTO_E_UNSUPPORTED == -2);
HOLDS(ZEPTO_E_DENIED == -3);
HOLDS(ZEPTO_E_NOT_FOUND == -4);
HOLDS(ZEPTO_E_TOO_BIG == -5);
HOLDS(ZEPTO_E_NO_MEMORY == -6);
HOLDS(ZEPTO_E_BUSY == -7);
HOLDS(ZEPTO_E_TIMEOUT == -8);
HOLDS(ZEPTO_E_CANCELED == -9);
HOLDS(ZEPTO_E_BAD_STATE == -10);
HOLDS(ZEPTO_E_REENTRANT == -11);
HOLDS(ZEPTO_E_REFUSED == -12);
HOLDS(ZEPTO_E_IO == -13);
HOLDS(ZEPTO_E_INTERNAL == -14);
HOLDS(ZEPTO_E_PANIC == -15);
HOLDS(ZEPTO_E_VERSION == -16);
HOLDS(ZEPTO_KIND_OTHER == 0);
HOLDS(ZEPTO_KIND_TRADE == 1);
HOLDS(ZEPTO_KIND_BID == 2);
HOLDS(ZEPTO_KIND_ASK == 3);
HOLDS(ZEPTO_KIND_FILL == 4);
HOLDS(ZEPTO_KIND_CLEAR == 5);
HOLDS(ZEPTO_KIND_USER_FIRST == 128);
HOLDS(ZEPTO_CLIENT_NO_SHARED_MEMORY == 1);
HOLDS(ZEPTO_DURABILITY_REPLICATED == 0);
HOLDS(ZEPTO_DURABILITY_MEMORY == 1);
HOLDS(ZEPTO_PRODUCER_TICKETS == 1);
HOLDS(ZEPTO_REFUSALS == 24);
HOLDS(ZEPTO_MEMBER_JOINING == 1);
HOLDS(ZEPTO_MEMBER_ACTIVE == 2);
HOLDS(ZEPTO_MEMBER_LEAVING == 3);
HOLDS(ZEPTO_MEMBER_DEAD == 4);
HOLDS(ZEPTO_LOG_ERROR == 1);
HOLDS(ZEPTO_LOG_WARN == 2);
HOLDS(ZEPTO_LOG_INFO == 3);
HOLDS(ZEPTO_LOG_DEBUG == 4);

#endif
