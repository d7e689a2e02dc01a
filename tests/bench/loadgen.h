/* Load generator of the benchmark: what its four files share.
 *
 * loadgen.c          commands on standard input, event loop, clock, reports
 * loadgen_mqtt.c     devices that connect, subscribe and count
 * loadgen_publish.c  publishers for brokers that have no REST
 * loadgen_http.c     keep-alive connections that send prepared requests
 *
 * One process, one thread, one epoll: writers and receivers share a clock, so the time from a
 * write to its push needs no synchronised machines.
 */
#ifndef LOADGEN_H
#define LOADGEN_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef uint64_t nanoseconds;

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
#define NEVER UINT64_MAX
#define LEVEL_5 5 /* protocol level of MQTT 5.0 */

/* A file descriptor in the loop; first member of whatever owns it. */
struct link {
    int fd;
    void (*on_ready)(struct link *link, uint32_t ready);
};

/* What came in since the last `begin_run`. */
struct received {
    uint64_t pushes;
    uint64_t bytes;
    nanoseconds first;
    nanoseconds last;
};

extern struct received received;

/* loadgen.c: clock and loop */
nanoseconds now_ns(void);
void loop_add(struct link *link, uint32_t interest);
void loop_change(struct link *link, uint32_t interest);
void loop_remove(struct link *link);
bool loop_until(bool (*done)(void), nanoseconds deadline); /* false: the deadline passed */

/* loadgen.c: the command being run */
const char *option(const char *name, const char *fallback);
long number(const char *name, long fallback);
struct sockaddr_in address_option(void);
void fail(const char *what) __attribute__((noreturn));

/* loadgen.c: when each event was sent and accepted; `index` is the number behind the marker */
void events_begin(size_t count);
void event_sent(size_t index, nanoseconds at);
void event_accepted(size_t index, nanoseconds at);
void event_arrived(const uint8_t *payload, size_t size, nanoseconds at);

/* loadgen.c: a run is what lies between its first write and its last push */
void begin_run(void);
void end_run(bool (*sent)(void)); /* waits for `sent` and for `expect` pushes, then reports */

/* loadgen.c: reports, one JSON object on one line */
void report_begin(const char *command);
void report_number(const char *name, double value);
void report_text(const char *name, const char *text, size_t size);
void report_quantiles(const char *name, nanoseconds *samples, size_t count); /* sorts samples */
void report_end(void);

/* loadgen_mqtt.c */
void mqtt_connect_devices(void);
void mqtt_disconnect_devices(void);
void mqtt_stall(void);
void mqtt_hold(void);
void mqtt_begin_run(void);
void mqtt_report(void);
size_t mqtt_device_count(void);
const char *mqtt_device_topic(size_t index);
nanoseconds mqtt_tick(nanoseconds now); /* does what is due and returns when the next is */

/* loadgen_mqtt.c: packets. put_header goes in front of a body that leaves 5 bytes free for it. */
uint8_t *put_string(uint8_t *at, const char *text);
uint8_t *put_header(uint8_t *body, uint8_t first, size_t size);
bool send_connect(int fd, int level, uint16_t keep_alive_s, char *const *fields);

/* loadgen_publish.c */
void mqtt_publish(void);
nanoseconds publish_tick(nanoseconds now);

/* loadgen_http.c */
void http_send(void);
nanoseconds http_tick(nanoseconds now);

#endif
