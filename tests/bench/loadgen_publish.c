/* Load generator: MQTT publishers. See loadgen.h.
 *
 * General brokers cannot be asked for a push over REST, so the messages they are compared with come
 * from here: one on a shared topic, or one for each device's own topic as a push product needs.
 */
#define _GNU_SOURCE
#include "loadgen.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK_BYTES 65536

struct publisher {
    struct link link;
    uint8_t chunk[CHUNK_BYTES];
    size_t at;
    size_t end;
    size_t next; /* next message; messages are dealt out in turn */
    bool is_blocked;
};

static struct {
    struct publisher *publishers;
    size_t publisher_count;
    size_t events;
    size_t copies; /* messages an event takes: one, or one for each device's own topic */
    size_t messages;
    size_t written;
    size_t payload_bytes;
    int level;
    const char *topic; /* NULL: each device's own */
    nanoseconds began;
    nanoseconds interval; /* between two events; 0: as fast as the broker takes them */
    bool active;
} feed;

static uint8_t *put_message(uint8_t *at, size_t message)
{
    char marker[32];
    size_t event = message / feed.copies;
    uint8_t *body = at + 5;
    const char *topic = feed.topic;
    if (topic == NULL)
        topic = mqtt_device_topic(message % feed.copies);
    uint8_t *end = put_string(body, topic);
    if (feed.level == LEVEL_5)
        *end++ = 0;
    int used = snprintf(marker, sizeof marker, "{\"objectID\":\"bench-%08zu\"", event);
    memset(end, ' ', feed.payload_bytes);
    memcpy(end, marker, (size_t)used);
    end[feed.payload_bytes - 1] = '}';
    end += feed.payload_bytes;
    size_t size = (size_t)(end - body);
    uint8_t *start = put_header(body, 0x30, size);
    memmove(at, start, (size_t)(end - start));
    return at + (end - start);
}

static void feed_publisher(struct publisher *publisher, nanoseconds now)
{
    for (;;) {
        size_t room = feed.payload_bytes + 512;
        while (publisher->next < feed.messages && publisher->end + room < CHUNK_BYTES) {
            size_t event = publisher->next / feed.copies;
            nanoseconds due = feed.interval != 0 ? feed.began + event * feed.interval : now;
            if (due > now)
                break;
            event_sent(event, due);
            uint8_t *end = put_message(publisher->chunk + publisher->end, publisher->next);
            publisher->end = (size_t)(end - publisher->chunk);
            publisher->next += feed.publisher_count;
            feed.written++;
        }
        if (publisher->at == publisher->end)
            return;
        ssize_t sent = send(publisher->link.fd, publisher->chunk + publisher->at,
                            publisher->end - publisher->at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN)
            fail("publish");
        publisher->at += sent > 0 ? (size_t)sent : 0;
        if (publisher->at < publisher->end) {
            publisher->is_blocked = true;
            loop_change(&publisher->link, EPOLLIN | EPOLLOUT);
            return;
        }
        publisher->at = publisher->end = 0;
    }
}

static void on_publisher_ready(struct link *link, uint32_t ready)
{
    struct publisher *publisher = (struct publisher *)link;
    uint8_t ignored[4096];
    if ((ready & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 &&
        recv(link->fd, ignored, sizeof ignored, MSG_DONTWAIT) == 0)
        fail("the broker closed a publisher's connection");
    if ((ready & EPOLLOUT) != 0) {
        publisher->is_blocked = false;
        loop_change(link, EPOLLIN);
        feed_publisher(publisher, now_ns());
    }
}

static void open_publisher(struct publisher *publisher, size_t index, struct sockaddr_in address)
{
    char name[32];
    char *fields[] = {name, "", "", ""};
    uint8_t answer[64];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    snprintf(name, sizeof name, "publisher%zu", index);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail("publisher's connection");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (!send_connect(fd, feed.level, 0, fields) || recv(fd, answer, sizeof answer, 0) < 4 ||
        answer[3] != 0)
        fail("the broker refused a publisher");
    publisher->link = (struct link){.fd = fd, .on_ready = on_publisher_ready};
    publisher->next = index;
    loop_add(&publisher->link, EPOLLIN);
}

static bool all_published(void)
{
    return feed.written == feed.messages;
}

/* publish port= count= [host= topic= size= rate= connections= level= expect= timeout= pid=]:
 * without a topic, each event goes to every device's own topic */
void mqtt_publish(void)
{
    struct sockaddr_in address = address_option();
    memset(&feed, 0, sizeof feed);
    feed.level = (int)number("level", 4);
    feed.topic = *option("topic", "") != '\0' ? option("topic", NULL) : NULL;
    feed.events = (size_t)number("count", 1);
    feed.copies = feed.topic != NULL ? 1 : mqtt_device_count();
    feed.messages = feed.events * feed.copies;
    feed.payload_bytes = (size_t)number("size", 200);
    if (feed.payload_bytes < 32 || feed.payload_bytes > 32768)
        fail("size must be 32 to 32768");
    long rate = number("rate", 0);
    feed.interval = rate > 0 ? NS_PER_S / (nanoseconds)rate : 0;
    feed.publisher_count = (size_t)number("connections", 1);
    feed.publishers = calloc(feed.publisher_count, sizeof *feed.publishers);
    for (size_t i = 0; i < feed.publisher_count; i++)
        open_publisher(&feed.publishers[i], i, address);
    begin_run();
    events_begin(feed.events);
    feed.began = now_ns();
    feed.active = true;
    report_begin("publish");
    end_run(all_published);
    report_number("messages", (double)feed.written);
    report_end();
    feed.active = false;
    for (size_t i = 0; i < feed.publisher_count; i++) {
        loop_remove(&feed.publishers[i].link);
        close(feed.publishers[i].link.fd);
    }
    free(feed.publishers);
}

nanoseconds publish_tick(nanoseconds now)
{
    if (!feed.active || all_published())
        return NEVER;
    for (size_t i = 0; i < feed.publisher_count; i++)
        if (!feed.publishers[i].is_blocked)
            feed_publisher(&feed.publishers[i], now);
    if (feed.interval == 0) /* a blocked publisher goes on when its socket can be written */
        return NEVER;
    return feed.began + feed.written / feed.copies * feed.interval;
}
