//! What generated rows are about ([`RowContent`]): Nigerian names, merchants, bills and prices in naira.
//!
//! Rule: the order of draws is fixed. A draw that is added, moved or left out changes every bank of every seed.

use crate::hash::SeededRandom;

const FIRST_NAMES: &[&str] = &[
    "Adaeze",
    "Babatunde",
    "Chidinma",
    "Chukwuemeka",
    "Damilola",
    "Ebele",
    "Efosa",
    "Folake",
    "Funmilayo",
    "Halima",
    "Ibrahim",
    "Ifeoma",
    "Ikenna",
    "Jumoke",
    "Kelechi",
    "Kunle",
    "Maryam",
    "Musa",
    "Ngozi",
    "Nkechi",
    "Obinna",
    "Olumide",
    "Oluwaseun",
    "Osaze",
    "Rasheed",
    "Sadiq",
    "Temitope",
    "Tunde",
    "Uche",
    "Yakubu",
    "Yetunde",
    "Zainab",
];

const LAST_NAMES: &[&str] = &[
    "Abubakar",
    "Adebayo",
    "Adeleke",
    "Afolabi",
    "Akande",
    "Aliyu",
    "Anyanwu",
    "Balogun",
    "Bello",
    "Chukwu",
    "Danjuma",
    "Effiong",
    "Eze",
    "Ezekwesili",
    "Garba",
    "Ibekwe",
    "Idowu",
    "Igwe",
    "Lawal",
    "Mohammed",
    "Nwachukwu",
    "Nwosu",
    "Obi",
    "Ogunleye",
    "Ojo",
    "Okafor",
    "Okonkwo",
    "Oladipo",
    "Onyeka",
    "Osagie",
    "Sule",
    "Usman",
];

const EMPLOYERS: &[&str] = &[
    "ZENITH FOODS LTD",
    "LEKKI SOFTWARE HUB",
    "KANO TEXTILES PLC",
    "DELTA MARINE SERVICES",
    "ABUJA GENERAL HOSPITAL",
    "PALMGROVE SCHOOLS",
];

/// A merchant that card payments go to.
#[derive(Debug)]
pub(crate) struct SandboxMerchant {
    /// Its name in the bank's text.
    pub(crate) name: &'static str,
    /// Merchant category code, ISO 18245.
    pub(crate) category_code: &'static str,
    /// Prices of its goods.
    prices: PriceRange,
    /// Whether the booked amount may differ from the authorised one (fuel, tips, hotels).
    amount_drifts: bool,
}

/// Lowest and highest price, in naira.
#[derive(Clone, Copy, Debug)]
struct PriceRange {
    low: u32,
    high: u32,
}

const fn price_range(low: u32, high: u32) -> PriceRange {
    PriceRange { low, high }
}

const fn define_merchant(
    name: &'static str,
    category_code: &'static str,
    low: u32,
    high: u32,
    amount_drifts: bool,
) -> SandboxMerchant {
    SandboxMerchant {
        name,
        category_code,
        prices: price_range(low, high),
        amount_drifts,
    }
}

const MERCHANTS: &[SandboxMerchant] = &[
    define_merchant("SHOPRITE IKEJA CITY MALL", "5411", 3_500, 48_000, false),
    define_merchant("SPAR LEKKI", "5411", 2_800, 36_000, false),
    define_merchant("EBEANO SUPERMARKET", "5411", 1_900, 29_000, false),
    define_merchant("CHICKEN REPUBLIC YABA", "5814", 1_800, 9_500, false),
    define_merchant("KILIMANJARO PORT HARCOURT", "5814", 2_200, 11_000, false),
    define_merchant("THE PLACE VICTORIA ISLAND", "5812", 4_000, 26_000, true),
    define_merchant("NNPC MEGA STATION ABUJA", "5541", 8_000, 45_000, true),
    define_merchant("TOTALENERGIES AJAH", "5541", 7_000, 42_000, true),
    define_merchant("BOLT RIDE LAGOS", "4121", 1_200, 8_700, true),
    define_merchant("UBER TRIP LAGOS", "4121", 1_500, 9_900, true),
    define_merchant("GIGM OJOTA TERMINAL", "4131", 9_000, 24_000, false),
    define_merchant("JUMIA NIGERIA", "5999", 4_500, 120_000, false),
    define_merchant("KONGA ONLINE", "5999", 3_900, 95_000, false),
    define_merchant("MEDPLUS PHARMACY", "5912", 1_500, 22_000, false),
    define_merchant("FILMHOUSE CINEMAS SURULERE", "7832", 3_500, 12_000, false),
    define_merchant("TRANSCORP HILTON ABUJA", "7011", 65_000, 240_000, true),
];

const BILLS: &[(&str, u32, u32)] = &[
    ("IKEJA ELECTRIC PREPAID", 2_000, 40_000),
    ("EKO ELECTRICITY TOKEN", 2_000, 35_000),
    ("DSTV COMPACT SUBSCRIPTION", 15_700, 15_700),
    ("GOTV MAX", 7_200, 7_200),
    ("SPECTRANET INTERNET", 18_500, 26_000),
    ("LAGOS WATER CORPORATION", 3_000, 9_000),
];

const AIRTIME: &[&str] = &["MTN", "AIRTEL", "GLO", "9MOBILE"];

/// What a generated row is about.
#[derive(Clone, Debug)]
pub(crate) struct RowContent {
    /// Minor units, signed: negative leaves the account.
    pub(crate) amount_minor: i64,
    /// What is booked in the end; differs from `amount_minor` where a merchant settles another amount.
    pub(crate) booked_minor: i64,
    /// The bank's text.
    pub(crate) text: String,
    /// The bank's own code for the kind of row.
    pub(crate) code: &'static str,
    /// Set for card payments only.
    pub(crate) merchant: Option<&'static SandboxMerchant>,
}

impl RowContent {
    const fn without_merchant(amount_minor: i64, text: String, code: &'static str) -> Self {
        Self {
            amount_minor,
            booked_minor: amount_minor,
            text,
            code,
            merchant: None,
        }
    }
}

/// A full name.
pub(crate) fn generate_full_name(random: &mut SeededRandom) -> String {
    format!(
        "{} {}",
        random.pick_choice(FIRST_NAMES),
        random.pick_choice(LAST_NAMES)
    )
}

/// A card payment.
pub(crate) fn generate_card_payment(random: &mut SeededRandom) -> RowContent {
    let merchant = random.pick_choice(MERCHANTS);
    let minor = -generate_price(random, merchant.prices);
    let drift = i64::from(random.next_below(9)) - 4;
    let booked_minor = if merchant.amount_drifts {
        minor + minor / 100 * drift
    } else {
        minor
    };
    RowContent {
        amount_minor: minor,
        booked_minor,
        text: format!("POS PURCHASE {} NG", merchant.name),
        code: "POS",
        merchant: Some(merchant),
    }
}

/// Any other row: transfers, airtime, bills, charges, wages. Credits and debits about balance.
pub(crate) fn generate_other_payment(random: &mut SeededRandom) -> RowContent {
    match random.next_below(20) {
        0..=5 => {
            let minor = generate_price(random, price_range(5_000, 90_000));
            let text = format!(
                "NIP TRANSFER FROM {}",
                generate_full_name(random).to_uppercase()
            );
            RowContent::without_merchant(minor, text, "NIP")
        }
        6 => {
            let minor = generate_price(random, price_range(180_000, 420_000));
            let text = format!("SALARY {}", random.pick_choice(EMPLOYERS));
            RowContent::without_merchant(minor, text, "SAL")
        }
        7..=10 => {
            let minor = -generate_price(random, price_range(2_000, 60_000));
            let text = format!(
                "NIP TRANSFER TO {}",
                generate_full_name(random).to_uppercase()
            );
            RowContent::without_merchant(minor, text, "NIP")
        }
        11..=14 => {
            let minor = -i64::from(1 + random.next_below(20)) * 100 * KOBO_PER_NAIRA;
            let text = format!("{} AIRTIME VTU", random.pick_choice(AIRTIME));
            RowContent::without_merchant(minor, text, "VTU")
        }
        15..=17 => {
            let (name, low, high) = *random.pick_choice(BILLS);
            RowContent::without_merchant(
                -generate_price(random, price_range(low, high)),
                name.to_owned(),
                "BILL",
            )
        }
        18 => RowContent::without_merchant(
            -50 * KOBO_PER_NAIRA,
            "STAMP DUTY CHARGE".to_owned(),
            "FEE",
        ),
        _ => RowContent::without_merchant(-2_688, "SMS ALERT FEE".to_owned(), "FEE"),
    }
}

const KOBO_PER_NAIRA: i64 = 100;

/// A price in kobo within a range; every fourth one ends in 50 kobo.
fn generate_price(random: &mut SeededRandom, range: PriceRange) -> i64 {
    let PriceRange { low, high } = range;
    let naira = i64::from(low + random.next_below(high - low + 1));
    let odd = if low != high && random.next_below(4) == 0 {
        50
    } else {
        0
    };
    naira * KOBO_PER_NAIRA + odd
}
