//! What handlers say of themselves for the OpenAPI document.

/// Documents the handlers of a module: their fields, what their `data` is, and one sentence.
///
/// ```text
/// documented! {
///     get_by_customer(CUSTOMER, DATES, PAGE) -> Balances: "The balances of a customer.";
/// }
/// ```
///
/// Fields are those of `crate::openapi::fields`; the type derives `utoipa::ToSchema` behind the
/// feature `openapi`. Without that feature nothing of it is compiled.
macro_rules! documented {
    ($($handler:ident($($fields:expr),* $(,)?) -> $data:ty: $summary:literal;)+) => {
        #[cfg(feature = "openapi")]
        pub(crate) fn documented() -> Vec<crate::openapi::Doc> {
            #[allow(unused_imports, reason = "not every module has fields")]
            use crate::openapi::fields::*;
            vec![$({
                let _ = $handler;
                let handler = concat!(module_path!(), "::", stringify!($handler));
                #[allow(unused_mut, reason = "not every handler has fields")]
                let mut fields = Vec::new();
                $(fields.extend($fields);)*
                crate::openapi::Doc::new::<$data>(handler, $summary, fields)
            }),+]
        }
    };
}
