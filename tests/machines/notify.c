/* SPDX-FileCopyrightText: 2026 microvm.host contributors */
/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A guest of Firecracker that says over vsock that it is ready, as systemd does: READY=1 to a port of the host.
 *
 * It looks for the vsock device (virtio-mmio, VIRTIO 1.2, 4.2 and 5.10), connects to port 10003 of the host, sends, and
 * says TOY-GUEST-TOLD on the first serial port. Then it sleeps. 64 bit code that is entered as a Linux kernel is, with the
 * first GiB mapped; the device is in the fourth. Queues are polled.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#define MMIO 0xd0000000UL
#define DEVICES 16
#define SIZE 16 /* of a queue */
#define PORT 10003
#define CID 3
enum { RX, TX, EVENTS };
enum { REQUEST = 1, RESPONSE, RESET, SHUTDOWN, RW };

struct descriptor { u64 address; u32 length; u16 flags, next; };
struct available { u16 flags, index, ring[SIZE]; };
struct used { u16 flags, index; struct { u32 id, length; } ring[SIZE]; };
struct header { u64 from, to; u32 from_port, to_port, length; u16 type, operation; u32 flags, room, taken; } __attribute__((packed));
struct packet { struct header header; u8 data[4096]; } __attribute__((packed));
struct queue { struct descriptor descriptors[SIZE]; struct available available; struct used used __attribute__((aligned(16))); };

static struct queue queues[3] __attribute__((aligned(4096)));
static struct packet sent, received[4];
static u64 directory[512] __attribute__((aligned(4096)));
static u8 stack[8192] __attribute__((aligned(16), used));

static void put(const char *text)
{
	for (; *text; text++)
		__asm__ volatile("outb %0, %w1" : : "a"(*text), "Nd"(0x3f8));
}

static u32 get(u64 device, int at)
{
	return *(volatile u32 *)(device + at);
}

static void set(u64 device, int at, u64 value)
{
	*(volatile u32 *)(device + at) = (u32)value;
}

static void give(u64 device, int number, void *buffer, u32 length, u16 flags)
{
	struct queue *queue = &queues[number];
	u16 at = queue->available.index % SIZE;

	queue->descriptors[at] = (struct descriptor){ (u64)buffer, length, flags, 0 };
	queue->available.ring[at] = at;
	__sync_synchronize();
	queue->available.index++;
	__sync_synchronize();
	set(device, 0x50, number);
}

static void send(u64 device, u16 operation, const char *text)
{
	u32 length = 0;

	for (; text[length]; length++)
		sent.data[length] = text[length];
	sent.header = (struct header){ CID, 2, 1024, PORT, length, 1, operation, operation == SHUTDOWN ? 3 : 0, 65536, 0 };
	give(device, TX, &sent, sizeof(sent.header) + length, 0);
	while (*(volatile u16 *)&queues[TX].used.index != queues[TX].available.index)
		;
}

static void start(u64 device)
{
	set(device, 0x70, 0);
	set(device, 0x70, 1);	/* acknowledged */
	set(device, 0x70, 3);	/* it has a driver */
	set(device, 0x24, 1);
	set(device, 0x20, 1);	/* VIRTIO_F_VERSION_1 */
	set(device, 0x24, 0);
	set(device, 0x20, 0);
	set(device, 0x70, 11);	/* features */
	for (int number = 0; number < 3; number++) {
		struct queue *queue = &queues[number];
		u64 parts[3] = { (u64)queue->descriptors, (u64)&queue->available, (u64)&queue->used };

		set(device, 0x30, number);
		set(device, 0x38, SIZE);
		for (int part = 0; part < 3; part++) {
			set(device, 0x80 + 0x10 * part, parts[part]);
			set(device, 0x84 + 0x10 * part, parts[part] >> 32);
		}
		set(device, 0x44, 1);
	}
	set(device, 0x70, 15);	/* it drives */
}

__attribute__((section(".text.start"), used)) void _start(void)
{
	u64 *top, *table, device = 0;

	__asm__ volatile("lea stack + 8192(%rip), %rsp");
	__asm__ volatile("mov %%cr3, %0" : "=r"(top));
	table = (u64 *)(*top & ~0xfffUL);
	table[3] = (u64)directory | 3;
	directory[MMIO >> 21 & 511] = MMIO | 0x83;	/* a page of 2 MiB */
	__asm__ volatile("mov %0, %%cr3" : : "r"(top) : "memory");
	put("TOY-GUEST-READY\n");
	for (int number = 0; number < DEVICES && !device; number++)
		if (get(MMIO + 0x1000 * number, 0) == 0x74726976 && get(MMIO + 0x1000 * number, 8) == 19)
			device = MMIO + 0x1000 * number;
	if (!device)
		put("TOY-GUEST-HAS-NO-VSOCK\n");
	else {
		start(device);
		for (int number = 0; number < 4; number++)
			give(device, RX, &received[number], sizeof(received[0]), 2);
		send(device, REQUEST, "");
		while (!*(volatile u16 *)&queues[RX].used.index)
			;
		if (received[0].header.operation == RESPONSE) {
			send(device, RW, "READY=1\nSTATUS=Startup finished.\n");
			send(device, SHUTDOWN, "");
			put("TOY-GUEST-TOLD\n");
		} else
			put("TOY-GUEST-REFUSED\n");
	}
	for (;;)
		__asm__ volatile("hlt");
}
