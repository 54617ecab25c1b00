/* SPDX-FileCopyrightText: 2026 microvm.host contributors */
/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The smallest guest of QEMU's machine microvm that can be stopped gracefully: no Linux, no initramfs, ready at once.
 *
 * It prints TOY-GUEST-READY on the first serial port and sleeps. Eighteen times a second it looks whether the power
 * button was pressed (ACPI generic event device), says TOY-GUEST-OFF and powers off. Built with STUBBORN it ignores the
 * button. When it has a 9p share with a file `hello`, it first prints the first KiB of that: TOY-GUEST-READS ...
 * QEMU enters it by its PVH note, in 32 bit protected mode without paging (xen/include/public/arch-x86/hvm).
 * Addresses of devices: hw/i386/microvm.h and hw/acpi/generic_event_device.h of QEMU. Registers and queues: virtio 1.2,
 * 4.2.2 and 2.7; messages: 9P2000.L of diod's protocol.md. The fids are the client's to choose, so all of them are known.
 */
#define SERIAL 0x3f8
#define GED_EVENTS 0xfea00000
#define GED_SLEEP 0xfea00200
#define POWER_BUTTON 2
#define SLEEP_S5 0x34
#define VIRTIO 0xfeb00000		/* 24 devices, 512 bytes each */
#define VIRTIO_END 0xfeb03000
#define MAGIC 0x74726976
#define ID_9P 9
#define QUEUE_NOTIFY 0x50
#define RLERROR 7
#define NEXT 1				/* flags of a descriptor */
#define WRITE 2

.section .note.pvh, "a", @note
.balign 4
	.long	4, 4, 18		/* name, description, XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz	"Xen"
	.long	_start

.text
.code32
.globl _start
_start:
	cli
	mov	$stack, %esp
	lgdt	gdtr
	ljmp	$8, $1f
1:	mov	$16, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	lidt	idtr
	call	share
	mov	$ready, %esi
	call	print
	mov	$pic, %esi		/* interrupts at 0x20, only the timer's */
2:	lodsw
	test	%ax, %ax
	jz	3f
	movzbl	%ah, %edx
	out	%al, %dx
	jmp	2b
3:	sti
4:	hlt
#ifndef STUBBORN
	testl	$POWER_BUTTON, GED_EVENTS
	jz	4b
	mov	$bye, %esi
	call	print
	movb	$SLEEP_S5, GED_SLEEP
#endif
	jmp	4b

print:	mov	$SERIAL, %dx
5:	lodsb
	test	%al, %al
	jz	6f
	out	%al, %dx
	jmp	5b
6:	ret

share:	mov	$VIRTIO, %ebx
1:	cmpl	$MAGIC, (%ebx)
	jne	2f
	cmpl	$ID_9P, 8(%ebx)
	je	3f
2:	add	$0x200, %ebx
	cmp	$VIRTIO_END, %ebx
	jb	1b
	ret
3:	mov	$setup, %esi
4:	lodsl
	cmp	$-1, %eax
	je	5f
	mov	%eax, %edx
	lodsl
	mov	%eax, (%ebx, %edx)
	jmp	4b
5:	mov	$requests, %esi
	xor	%ecx, %ecx
6:	mov	%esi, request		/* one after the other, each by the same two descriptors */
	mov	(%esi), %eax		/* a message begins with its size */
	mov	%eax, request + 8
	inc	%ecx
	mov	%cx, available + 2
	movl	$0, QUEUE_NOTIFY(%ebx)
7:	pause
	cmp	%cx, used + 2
	jne	7b
	cmpb	$RLERROR, reply + 4
	je	8f
	add	(%esi), %esi
	cmp	$requests_end, %esi
	jb	6b
	mov	$reads, %esi
	call	print
	mov	$data, %esi
	mov	count, %eax
	movb	$0, data(%eax)
	call	print
8:	ret

timer:	push	%eax
	mov	$0x20, %al		/* end of interrupt */
	out	%al, $0x20
	pop	%eax
	iret

ready:	.asciz	"TOY-GUEST-READY\n"
bye:	.asciz	"TOY-GUEST-OFF\n"
reads:	.asciz	"TOY-GUEST-READS "
pic:	.byte	0x11, 0x20, 0x20, 0x21, 4, 0x21, 1, 0x21, 0xfe, 0x21	/* value, port */
	.byte	0x11, 0xa0, 0x28, 0xa1, 2, 0xa1, 1, 0xa1, 0xff, 0xa1
	.byte	0x34, 0x43, 0, 0x40, 0, 0x40, 0, 0

/* Register, value: reset, acknowledge, the feature VERSION_1, queue 0 with 8 places, go on. */
.balign 4
setup:	.long	0x70, 0, 0x70, 3, 0x24, 1, 0x20, 1, 0x70, 11
	.long	0x30, 0, 0x38, 8, 0x80, request, 0x90, available, 0xa0, used, 0x44, 1, 0x70, 15, -1

requests:
	.long	21			/* version: the largest message, what is spoken */
	.byte	100
	.short	-1
	.long	0x10000
	.short	8
	.ascii	"9P2000.L"
	.long	23			/* attach: fid 0, no authentication, no user, no name, as root */
	.byte	104
	.short	0
	.long	0, -1
	.short	0, 0
	.long	0
	.long	24			/* walk: from fid 0 to fid 1, one name */
	.byte	110
	.short	0
	.long	0, 1
	.short	1, 5
	.ascii	"hello"
	.long	15			/* open fid 1 to read */
	.byte	12
	.short	0
	.long	1, 0
	.long	23			/* read of fid 1, from the start, a KiB */
	.byte	116
	.short	0
	.long	1, 0, 0, 1024
requests_end:

.balign 16
request:
	.long	0, 0			/* address and size of what is asked */
	.long	0
	.short	NEXT, 1
	.long	reply, 0
	.long	reply_end - reply
	.short	WRITE, 0
	.fill	6 * 16, 1, 0
available:
	.fill	22, 1, 0
.balign 4
used:	.fill	72, 1, 0
reply:	.fill	7, 1, 0			/* size, type, tag */
count:	.long	0
data:	.fill	1025, 1, 0
reply_end:

.balign 8
gdt:	.quad	0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:	.word	gdtr - gdt - 1
	.long	gdt
.set	timer_low, timer - _start
.balign 8
idt:	.fill	0x20, 8, 0
	.word	timer_low, 8, 0x8e00, 0x10	/* the timer's handler, which is above 1 MiB */
idtr:	.word	idtr - idt - 1
	.long	idt
.balign 16
	.fill	256, 1, 0
stack:
