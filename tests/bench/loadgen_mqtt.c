/* Load generator: MQTT devices. See loadgen.h.
 *
 * A device connects with its own credentials, subscribes to its own topic, answers for its
 * keep-alive and counts what it receives. MQTT 3.1, 3.1.1 and 5.0, QoS 0.
 */
#define _GNU_SOURCE
#include "loadgen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define INPUT_BYTES 1048576
#define PACKET_LIMIT_BYTES 65536

enum packet_type { CONNACK = 2, PUBLISH = 3, SUBACK = 9, PINGRESP = 13 };
enum state { WAITING, CONNECTING, CONNECTED, LIVE, CLOSED };

struct device {
    struct link link;
    enum state state;
    bool is_stalled;
    char *fields[4]; /* client ID, user name, password, topic */
    uint8_t *partial; /* start of a packet whose end has not come */
    size_t partial_size;
    nanoseconds started;
    nanoseconds ready;
    uint32_t received;
};

static struct device **devices;
static size_t device_count, device_room;
static uint8_t input[INPUT_BYTES + PACKET_LIMIT_BYTES];

static struct {
    struct sockaddr_in address;
    int level;
    uint16_t keep_alive_s;
    int receive_buffer_bytes;
    long source_count;
    size_t first; /* devices of this command: first to device_count */
    size_t next;
    size_t in_hand; /* between connect() and SUBACK */
    size_t in_hand_limit;
    size_t ready;
    size_t failed;
    char failure[128];
} storm;

static struct {
    nanoseconds began;
    nanoseconds interval; /* between two pings of any device; 0: no keep-alive */
    uint64_t turn;
    uint64_t sent;
    uint64_t answered;
    uint64_t lost; /* devices whose connection ended, pushes or not */
} pings;

/* ---- packets ----------------------------------------------------------------------------- */

static uint8_t *put_text(uint8_t *at, const char *text, size_t size)
{
    *at++ = (uint8_t)(size >> 8);
    *at++ = (uint8_t)size;
    memcpy(at, text, size);
    return at + size;
}

uint8_t *put_string(uint8_t *at, const char *text)
{
    return put_text(at, text, strlen(text));
}

uint8_t *put_header(uint8_t *body, uint8_t first, size_t size)
{
    uint8_t header[5] = {first}, *at = header + 1;
    do {
        *at++ = (uint8_t)((size & 127) | (size > 127 ? 128 : 0));
        size >>= 7;
    } while (size != 0);
    size_t length = (size_t)(at - header);
    memcpy(body - length, header, length);
    return body - length;
}

static bool send_packet(int fd, uint8_t *body, uint8_t first, const uint8_t *end)
{
    uint8_t *start = put_header(body, first, (size_t)(end - body));
    ssize_t size = end - start;
    return send(fd, start, (size_t)size, MSG_NOSIGNAL) == size;
}

bool send_connect(int fd, int level, uint16_t keep_alive_s, char *const *fields)
{
    uint8_t packet[2048], *body = packet + 5;
    bool has_user = *fields[1] != '\0';
    uint8_t *at = put_string(body, level == 3 ? "MQIsdp" : "MQTT");
    *at++ = (uint8_t)level;
    *at++ = has_user ? 0xC2 : 0x02; /* user name, password, clean session */
    *at++ = (uint8_t)(keep_alive_s >> 8);
    *at++ = (uint8_t)keep_alive_s;
    if (level == LEVEL_5)
        *at++ = 0; /* no properties */
    at = put_string(at, fields[0]);
    if (has_user)
        at = put_string(put_string(at, fields[1]), fields[2]);
    return send_packet(fd, body, 0x10, at);
}

static bool send_subscribe(int fd, int level, const char *topic)
{
    uint8_t packet[512], *body = packet + 5, *at = body;
    *at++ = 0;
    *at++ = 1; /* packet ID */
    if (level == LEVEL_5)
        *at++ = 0;
    at = put_string(at, topic);
    *at++ = 0; /* QoS 0 */
    return send_packet(fd, body, 0x82, at);
}

/* ---- devices ----------------------------------------------------------------------------- */

static void device_over(struct device *device, const char *why)
{
    if (device->state == LIVE) {
        pings.lost++;
    } else {
        storm.failed++;
        storm.in_hand--;
        if (storm.failure[0] == '\0')
            snprintf(storm.failure, sizeof storm.failure, "%s", why);
    }
    device->state = CLOSED;
    if (!device->is_stalled)
        loop_remove(&device->link);
    close(device->link.fd);
}

static void handle_packet(struct device *device, const uint8_t *packet, const uint8_t *body,
                          size_t size, nanoseconds now)
{
    switch (*packet >> 4) {
    case PUBLISH:
        device->received++;
        received.pushes++;
        received.bytes += (size_t)(body - packet) + size;
        received.first = received.first == 0 ? now : received.first;
        received.last = now;
        event_arrived(body, size, now);
        break;
    case CONNACK:
        if (size < 2 || body[1] != 0)
            device_over(device, "CONNECT was refused");
        else if (!send_subscribe(device->link.fd, storm.level, device->fields[3]))
            device_over(device, "SUBSCRIBE was not sent");
        break;
    case SUBACK:
        if (size < 3 || body[size - 1] >= 0x80) {
            device_over(device, "SUBSCRIBE was refused");
            break;
        }
        device->state = LIVE;
        device->ready = now;
        storm.ready++;
        storm.in_hand--;
        break;
    case PINGRESP:
        pings.answered++;
        break;
    default:
        device_over(device, "unexpected packet");
    }
}

/* Handles every complete packet and returns how many bytes they took. */
static size_t handle_packets(struct device *device, const uint8_t *bytes, size_t size,
                             nanoseconds now)
{
    size_t at = 0;
    while (device->state != CLOSED) {
        size_t length = 0, head = at + 1;
        unsigned shift = 0;
        for (; head < size && shift < 28; shift += 7) {
            length |= (size_t)(bytes[head] & 127) << shift;
            if ((bytes[head++] & 128) == 0)
                break;
        }
        if (head > size || head == at + 1 || (bytes[head - 1] & 128) != 0 || head + length > size)
            break;
        handle_packet(device, bytes + at, bytes + head, length, now);
        at = head + length;
    }
    return at;
}

static void read_device(struct device *device)
{
    size_t kept = device->partial_size;
    memcpy(input, device->partial, kept);
    ssize_t got = recv(device->link.fd, input + kept, INPUT_BYTES, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        device_over(device, "the server closed the connection");
        return;
    }
    size_t size = kept + (size_t)got;
    size_t used = handle_packets(device, input, size, now_ns());
    if (device->state == CLOSED)
        return;
    device->partial_size = size - used;
    if (device->partial_size > PACKET_LIMIT_BYTES)
        fail("a packet is larger than the load generator takes");
    free(device->partial);
    device->partial = NULL;
    if (device->partial_size != 0) {
        device->partial = malloc(device->partial_size);
        memcpy(device->partial, input + used, device->partial_size);
    }
}

static void on_device_ready(struct link *link, uint32_t ready)
{
    struct device *device = (struct device *)link;
    if (device->state == CONNECTING && (ready & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) {
        device->state = CONNECTED;
        loop_change(link, EPOLLIN);
        if (!send_connect(link->fd, storm.level, storm.keep_alive_s, device->fields))
            device_over(device, "the connection was refused");
        return;
    }
    if (device->state != CLOSED)
        read_device(device);
}

static void start_device(struct device *device, size_t index, nanoseconds now)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0)
        fail("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    int size = storm.receive_buffer_bytes;
    if (size != 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (storm.source_count != 0) {
        /* 127.0.1.1, 127.0.1.2, ...: limits per address and the range of ports are per source. */
        struct sockaddr_in source = {.sin_family = AF_INET};
        uint32_t number = (uint32_t)(index % (size_t)storm.source_count);
        source.sin_addr.s_addr = htonl(0x7F000101U + number);
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(fd, (struct sockaddr *)&source, sizeof source) != 0)
            fail("bind");
    }
    device->link = (struct link){.fd = fd, .on_ready = on_device_ready};
    device->state = CONNECTING;
    device->started = now;
    storm.in_hand++;
    loop_add(&device->link, EPOLLOUT);
    const struct sockaddr *address = (const struct sockaddr *)&storm.address;
    if (connect(fd, address, sizeof storm.address) != 0 && errno != EINPROGRESS)
        device_over(device, "connect() failed");
}

static void load_devices(const char *path)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    if (file == NULL)
        fail(path);
    while (getline(&line, &room, file) > 0) {
        line[strcspn(line, "\n")] = '\0';
        struct device *device = calloc(1, sizeof *device);
        char *rest = strdup(line);
        for (size_t i = 0; i < 4; i++)
            if ((device->fields[i] = strsep(&rest, "\t")) == NULL)
                fail("a line of the device file must have four fields");
        if (device_count == device_room) {
            device_room = device_room == 0 ? 1024 : 2 * device_room;
            devices = realloc(devices, device_room * sizeof(struct device *));
        }
        devices[device_count++] = device;
    }
    free(line);
    fclose(file);
}

static bool storm_over(void)
{
    return storm.ready + storm.failed == device_count - storm.first;
}

/* connect port= file= [host= concurrency= keep_alive_s= level= receive_buffer_bytes= sources=
 *                      timeout= pid=]: one device a line: client ID, user name, password, topic */
void mqtt_connect_devices(void)
{
    memset(&storm, 0, sizeof storm);
    storm.address = address_option();
    storm.level = (int)number("level", 4);
    storm.keep_alive_s = (uint16_t)number("keep_alive_s", 60);
    storm.receive_buffer_bytes = (int)number("receive_buffer_bytes", 0);
    storm.source_count = number("sources", 0);
    storm.in_hand_limit = (size_t)number("concurrency", 200);
    storm.first = storm.next = device_count;
    load_devices(option("file", NULL));
    report_begin("connect");
    begin_run();
    nanoseconds began = now_ns();
    loop_until(storm_over, began + (nanoseconds)number("timeout", 60) * NS_PER_S);
    end_run(NULL);
    nanoseconds last = began, *took = malloc((storm.ready + 1) * sizeof *took);
    size_t count = 0;
    for (size_t i = storm.first; i < device_count; i++)
        if (devices[i]->state == LIVE) {
            took[count++] = devices[i]->ready - devices[i]->started;
            last = devices[i]->ready > last ? devices[i]->ready : last;
        }
    report_number("connected", (double)storm.ready);
    report_number("failed", (double)(device_count - storm.first - storm.ready));
    report_number("connect_s", (double)(last - began) / 1e9);
    report_quantiles("connect_ms", took, count);
    if (storm.failure[0] != '\0')
        report_text("first_failure", storm.failure, strlen(storm.failure));
    report_end();
    free(took);
    pings.began = now_ns();
    pings.turn = 1;
    /* Real clients ping when the keep-alive has nearly passed; here evenly spread over devices. */
    if (storm.keep_alive_s != 0 && device_count != 0)
        pings.interval = storm.keep_alive_s * NS_PER_S * 9 / 10 / device_count;
}

void mqtt_disconnect_devices(void)
{
    static const uint8_t disconnect[] = {0xE0, 0};
    for (size_t i = 0; i < device_count; i++) {
        struct device *device = devices[i];
        if (device->state == LIVE) {
            (void)!send(device->link.fd, disconnect, sizeof disconnect, MSG_NOSIGNAL);
            if (!device->is_stalled)
                loop_remove(&device->link);
            close(device->link.fd);
        }
        free(device->partial);
        free(device->fields[0]);
        free(device);
    }
    device_count = 0;
    memset(&pings, 0, sizeof pings);
    report_begin("disconnect");
    report_end();
}

/* stall count= [on=1]: the first `count` devices stop reading, or read again with on=0 */
void mqtt_stall(void)
{
    bool is_stalled = number("on", 1) != 0;
    for (size_t i = 0; i < (size_t)number("count", 1) && i < device_count; i++) {
        struct device *device = devices[i];
        if (device->state != LIVE || device->is_stalled == is_stalled)
            continue;
        device->is_stalled = is_stalled;
        if (is_stalled)
            loop_remove(&device->link);
        else
            loop_add(&device->link, EPOLLIN);
    }
    report_begin("stall");
    report_end();
}

static bool never(void)
{
    return false;
}

/* hold seconds= [pid=]: nothing but keep-alives */
void mqtt_hold(void)
{
    begin_run();
    uint64_t sent = pings.sent, answered = pings.answered;
    loop_until(never, now_ns() + (nanoseconds)number("seconds", 10) * NS_PER_S);
    report_begin("hold");
    end_run(NULL);
    report_number("pings", (double)(pings.sent - sent));
    report_number("answers", (double)(pings.answered - answered));
    report_end();
}

size_t mqtt_device_count(void)
{
    return device_count;
}

const char *mqtt_device_topic(size_t index)
{
    return devices[index]->fields[3];
}

void mqtt_begin_run(void)
{
    for (size_t i = 0; i < device_count; i++)
        devices[i]->received = 0;
    pings.lost = 0;
}

void mqtt_report(void)
{
    uint32_t least = UINT32_MAX, most = 0;
    for (size_t i = 0; i < device_count; i++) {
        struct device *device = devices[i];
        if (device->is_stalled || device->state == WAITING)
            continue;
        least = device->received < least ? device->received : least;
        most = device->received > most ? device->received : most;
    }
    report_number("pushes", (double)received.pushes);
    report_number("bytes", (double)received.bytes);
    report_number("least_per_device", least == UINT32_MAX ? 0 : least);
    report_number("most_per_device", most);
    report_number("lost_connections", (double)pings.lost);
    report_number("first_to_last_s", (double)(received.last - received.first) / 1e9);
}

/* ---- what is due ------------------------------------------------------------------------- */

static void send_ping(struct device *device)
{
    static const uint8_t ping[] = {0xC0, 0};
    if (device->state != LIVE)
        return;
    if (send(device->link.fd, ping, sizeof ping, MSG_NOSIGNAL) == sizeof ping)
        pings.sent++;
}

nanoseconds mqtt_tick(nanoseconds now)
{
    nanoseconds next = NEVER;
    for (; storm.next < device_count && storm.in_hand < storm.in_hand_limit; storm.next++)
        start_device(devices[storm.next], storm.next, now);
    if (pings.interval != 0) {
        for (; pings.began + pings.turn * pings.interval <= now; pings.turn++)
            send_ping(devices[pings.turn % device_count]);
        /* A ping may be a millisecond late: no reason to spin. */
        next = pings.began + pings.turn * pings.interval + NS_PER_MS;
    }
    return next;
}
